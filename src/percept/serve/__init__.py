"""HTTP server with a search page and embedding and chat APIs; empty until its own issue."""
