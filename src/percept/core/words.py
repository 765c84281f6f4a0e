"""Rules of English grammar that several layers share."""


def article(words: str) -> str:
    """Put "a" or "an" before words.

    >>> article("orange cup"), article("red cup"), article("umbrella"), article("Unicorn")
    ('an orange cup', 'a red cup', 'an umbrella', 'a Unicorn')
    """
    start = words[:3].lower()
    vowel = start[:1] in ("a", "e", "i", "o", "u") and not start.startswith(("uni", "use", "eu", "one"))
    return f"{'an' if vowel else 'a'} {words}"
