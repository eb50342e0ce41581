"""Texts from outside, as they may be shown."""

import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # categories of Unicode that a terminal obeys, or shows as nothing


def printable(text: str) -> str:
    """Return a name from a file system or an archive as it may be shown: control characters, and bytes that are no UTF-8, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(one) if unicodedata.category(one) in HIDDEN else one for one in text)


def _escaped(one: str) -> str:
    if "\udc80" <= one <= "\udcff":  # a byte that Python has kept so (PEP 383)
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode()
