"""Reference tensors, and the rule that fills weights and inputs so that a test can reproduce them."""
