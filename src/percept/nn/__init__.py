"""Layers as the papers write them. No model's or paper's name, no private torch API, no choice per processor."""
