"""Which images may match? Hashing into terms and codes, the term index, its tuning and its server."""
