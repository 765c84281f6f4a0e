"""Keys by ordered rules: every rule is a pattern and what takes its place."""

import re

Rules = tuple[tuple[str, str], ...]


def rename(key: str, rules: Rules) -> str:
    """Apply all rules to a key, one after the other.

    >>> rename("blocks.0.norm1.bias", ((r"\\bnorm([12])\\.", r"norm_\\1."),))
    'blocks.0.norm_1.bias'
    """
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
