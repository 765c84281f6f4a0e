"""percept: perception encoders and perception language models, from training to search."""
