"""Compares the term index with its goals and with the alternatives: `make bench-search`."""
