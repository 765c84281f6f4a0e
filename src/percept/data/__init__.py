"""Data: reading pictures, preprocessing, tokenizers, folders, and the generated labelled world."""
