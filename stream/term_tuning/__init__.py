"""How are terms chosen for a data set of embeddings and pairs?"""
