"""How alike are the clusters of two systems, and where do they differ most?"""
