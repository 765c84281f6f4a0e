"""Optimisation: rules for parameters, optimisers, schedules, and float32 master weights for models in bfloat16."""
