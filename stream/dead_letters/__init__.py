"""Which dead letters are there, what is in them, and how are they replayed or settled?"""
