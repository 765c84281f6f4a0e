"""The chat API of OpenAI: requests, a scheduler that answers them together, and responses."""
