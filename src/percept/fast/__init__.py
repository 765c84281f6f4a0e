"""Inference forms of the blocks: the only room with private torch APIs and choices per processor."""
