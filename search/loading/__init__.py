"""How does an index begin with all images of a manifest, beside the one that serves, and when does it serve?"""
