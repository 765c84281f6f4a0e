"""Methods that keep a new model usable with what an old model has computed."""
