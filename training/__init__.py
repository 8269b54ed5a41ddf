"""How is a model trained and evaluated? Labels, fitting, thresholds, simulated streams, evaluation."""
