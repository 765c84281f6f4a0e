"""The search API of an index, and its page."""
