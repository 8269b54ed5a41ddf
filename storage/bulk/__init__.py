"""How do more images move than one write can carry, while the store is read and written?"""
