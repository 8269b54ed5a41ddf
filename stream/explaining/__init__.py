"""How is an image's verdict asked for again, and what keeps two images apart, without writing anything?"""
