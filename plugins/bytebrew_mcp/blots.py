"""What a server was given in confidence is blotted out of what it says, for it may repeat it."""

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec.json import encode

from bytebrew import masked

Blot = Callable[[str], str]

_NAMES = re.compile(r"(?i)key|token|secret|passw|pwd|credential|auth|cookie")
_PASSWORD = re.compile(r"://[^/\s]*@")


def is_credential(name: str, value: str) -> bool:
    """Whether a variable holds one, by its name or for a password in a URL; most others are places that tools name."""
    return _NAMES.search(name) is not None or _PASSWORD.search(value) is not None


def values_in(args: Sequence[str]) -> list[str]:
    """What a command line may hold in confidence: each argument but for options, and what follows their `=`."""
    return [value for one in args if (value := one.partition("=")[2] if one.startswith("-") else one)]


def credentials_in(args: Sequence[str]) -> list[str]:
    """Those of them that are credentials, by the option that they belong to or for a password in a URL."""
    found = []
    for option, one in zip(("", *args), args, strict=False):
        name, equals, value = one.partition("=")
        if one.startswith("-") and not equals:
            continue
        before = name if equals else option if option.startswith("-") else ""
        found += [text for text in ((value if equals else one),) if is_credential(before, text)]
    return found


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
