"""Recipes: a published or our own training run as a function; the table imports nothing."""

RECIPES: dict[str, str] = {"pe/nano": "percept.recipes.pe_nano:recipe"}
"""Recipe name to "module:function"."""
