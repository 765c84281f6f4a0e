"""Rules of English grammar that several layers share."""


def article(words: str) -> str:
    """Put "a" or "an" before words.

    >>> article("orange cup"), article("red cup"), article("umbrella"), article("Unicorn")
    ('an orange cup', 'a red cup', 'an umbrella', 'a Unicorn')
    """
    start = words[:3].lower()
    vowel = start[:1] in ("a", "e", "i", "o", "u") and not start.startswith(("uni", "use", "eu", "one"))
    return f"{'an' if vowel else 'a'} {words}"


def count(number: int, thing: str, plural: str = "") -> str:
    """Return the number with its noun.

    >>> count(1, "image"), count(3, "image"), count(2, "copy", "copies")
    ('1 image', '3 images', '2 copies')
    """
    return f"{number:,} {thing if number == 1 else plural or f'{thing}s'}"
