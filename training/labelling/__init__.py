"""Which pictures are near-duplicates by their geometry, as labels for training?"""
