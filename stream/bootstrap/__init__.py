"""How do images of another system, already in clusters, become a manifest that can be loaded?"""
