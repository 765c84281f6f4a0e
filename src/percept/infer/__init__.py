"""What a user's three lines call: load a model, embed pictures and texts, classify, look at dense features."""
