"""What a server was given in confidence is blotted out of what it says, for it may repeat it."""

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec.json import encode

from bytebrew import masked

Blot = Callable[[str], str]

_NAMES = re.compile(r"(?i)key|token|secret|passw|pwd|credential|auth|cookie")
_PASSWORD = re.compile(r"://[^/\s]*@")
_HEADER = re.compile(r"([A-Za-z0-9_-]+):(?!//)\s*(\S.*)")


def is_credential(name: str, value: str) -> bool:
    """Whether a variable holds one, by its name or for a password in a URL; most others are places that tools name."""
    return _NAMES.search(name) is not None or _PASSWORD.search(value) is not None


def values_in(args: Sequence[str]) -> list[str]:
    """What a command line may hold in confidence: each argument but for options, and what follows their name."""
    values = [value for one in args if (value := _attached(one)[1] if one.startswith("-") else one)]
    return [*values, *(piece for value in values for piece in _of_header(value)[1])]


def credentials_in(args: Sequence[str]) -> list[str]:
    """Those of them that are credentials, by the option or the header that they belong to, or in a URL."""
    found = []
    for option, one in zip(("", *args), args, strict=False):
        name, value = _attached(one) if one.startswith("-") else (option if option.startswith("-") else "", one)
        found += [value] if value and is_credential(name, value) else []
        header, pieces = _of_header(value)
        found += pieces if is_credential(header, "") else []
    return found


def _attached(option: str) -> tuple[str, str]:
    """The name of an option and the value that is written to it, as in `--key=value` and `-Kvalue`."""
    name, _, value = option.partition("=")
    return (name, value) if value or option.startswith("--") else (option[:2], option[2:])


def _of_header(text: str) -> tuple[str, list[str]]:
    """The name and the words of a header that an argument is, as `X-Key: value` is."""
    found = _HEADER.fullmatch(text)
    return (found[1], [found[2], *found[2].split()]) if found else ("", [])


def blotting(secrets: Iterable[str], shortest: int) -> Blot:
    """Masks the secrets and each of their lines, as they are and as JSON has them; what is shorter may be a word."""
    pieces = {piece for secret in secrets for piece in (secret, *secret.splitlines()) if len(piece) >= shortest}
    pieces |= {encode(piece).decode()[1:-1] for piece in pieces}
    ordered = sorted(pieces, key=len, reverse=True)

    def blot(text: str) -> str:
        for piece in ordered:
            if piece[:6] in text:
                text = masked(text, piece)
        return text

    return blot
