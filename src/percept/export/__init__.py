"""ONNX graphs of a model, and receipts: whether two models compute the same, and where they first differ."""
