"""How well do two images match? The model, its card, and the micro-batches that it scores."""
