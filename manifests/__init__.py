"""How do many images lie in files, with their embeddings and their clusters?"""
