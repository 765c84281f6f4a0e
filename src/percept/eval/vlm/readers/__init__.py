"""Readers of the public file layouts: each yields the items of a file, in its order."""
