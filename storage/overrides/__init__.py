"""Which overrides stand, do they contradict each other, and what do they move?"""
