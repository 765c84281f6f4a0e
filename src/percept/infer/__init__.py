"""What the first lines of a user call: load a model, embed images and texts, classify, inspect dense features."""
