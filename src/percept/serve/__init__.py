"""HTTP: the chat API; limits, tokens and the graceful stop that every service shares."""
