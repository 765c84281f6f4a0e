"""Models: the towers, the pair of towers, the table of released sizes, and their files."""
