"""What a language model reads: its tokenizer, chat templates, image tiles, regions, and conversations from rows of data."""
