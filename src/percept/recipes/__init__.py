"""Recipes: training runs as functions. The table imports nothing."""

RECIPES: dict[str, str] = {"pe/nano": "percept.recipes.pe_nano:recipe"}
"""Recipe name → "module:function"."""
