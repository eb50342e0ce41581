"""`ray start` and its options, in a command line or a script."""

import re
import shlex


def starts(text: str) -> list[dict[str, str]]:
    """Return the options of each `ray start`, without their dashes; a flag has the value ""."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found: list[dict[str, str]] = []
    for line in joined.splitlines():
        if line.lstrip().startswith("#") or "ray start" not in line:
            continue
        for part in line.split("ray start")[1:]:
            found.append(_options(_words(part)))
    return found


def _words(text: str) -> list[str]:
    """Return the words up to the end of the command."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    try:
        for word in lexer:
            if word[0] in ";&|<>":
                break
            words.append(word)
    except ValueError:  # a quote without its other half: the shell would complain, too
        pass
    return words


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            name, sign, value = word[2:].partition("=")
            following = words[number + 1] if number + 1 < len(words) else ""
            options[name] = value if sign or following.startswith("--") else following
    return options
