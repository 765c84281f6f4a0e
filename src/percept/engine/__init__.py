"""Video data engine; empty until its own issue."""
