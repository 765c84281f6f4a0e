"""Names of categories that include other categories, as every fir tree is a tree."""

_BIRDS = ("duck", "owl", "penguin")


def is_kind_of(category: str, name: str) -> bool:
    """True if a thing of this category may also be called `name`, which is a different category.

    >>> is_kind_of("fir tree", "tree"), is_kind_of("duck", "bird"), is_kind_of("tree", "fir tree")
    (True, True, False)
    """
    return category != name and (category.endswith(f" {name}") or (name == "bird" and category in _BIRDS))


def may_be_called(category: str, name: str) -> bool:
    """True if a thing of this category may be called `name`."""
    return category == name or is_kind_of(category, name)


def confusable(first: str, second: str) -> bool:
    """True if two categories are equal or one includes the other."""
    return may_be_called(first, second) or is_kind_of(second, first)
