"""What CLIP does to a text before it is split into tokens."""

import html


def clean(text: str) -> str:
    """Repair wrongly decoded letters, undo HTML escapes twice, collapse white space and lower the case, as CLIP does.

    >>> clean(" Fish &amp;amp; CHIPS ")
    'fish & chips'
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):  # such texts need no repair
        from ftfy import fix_text

        text = html.unescape(html.unescape(fix_text(text)))
    return " ".join(text.split()).lower()
