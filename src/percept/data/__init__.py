"""Data: reading images and videos, preprocessing, tokenizers, and folders of files."""
