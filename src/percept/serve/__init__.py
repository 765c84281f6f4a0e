"""HTTP: nothing here yet; a search page and embedding and chat APIs come with their own issue."""
