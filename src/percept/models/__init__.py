"""Models: configurations, towers, the pair of towers, the table of released sizes, and exported towers."""
