"""How is a model made and judged? Labels, fitting, thresholds, simulated streams, evaluation."""
