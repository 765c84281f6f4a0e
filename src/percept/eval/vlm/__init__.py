"""Evaluation of perception language models: metrics, judges, readers of public files, and tasks of the generated world."""
