"""Core: errors, contracts, configuration, files, seeds and terminal output; knows nothing of models."""
