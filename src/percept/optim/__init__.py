"""Optimisation: parameter groups, schedules, and fp32 master weights for models that compute in bfloat16."""
