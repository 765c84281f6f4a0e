"""Layers: no model's and no paper's name in here."""
