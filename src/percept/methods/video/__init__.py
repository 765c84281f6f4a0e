"""Methods on videos."""
