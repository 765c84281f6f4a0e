"""Methods whose models curate data."""
