"""Which pictures are near-duplicates by their geometry? The answers are labels for training."""
