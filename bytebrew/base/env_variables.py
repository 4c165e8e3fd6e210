"""`${VAR}` and `${VAR:-default}` in a configuration: what they stand for is in the process's environment."""

import os
import re
from collections.abc import Mapping, Sequence

from bytebrew.base.errors import Unprocessable
from bytebrew.base.secrets import Secrets

_VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]{0,254})(?::-([^}]*))?\}"
_WRITTEN = re.compile(rf"\$\$\{{|{_VARIABLE}")
_CREDENTIAL = re.compile(rf"((?:[A-Za-z]{{1,20}} )?){_VARIABLE}")
OWN = "BYTEBREW_"


def environment() -> Mapping[str, str]:
    """What variables stand for: the process's environment, without the engine's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN)}


def expanded(text: str) -> tuple[str, list[str]]:
    """The text with the values of its variables, and the names of those that have none; `$${` is a plain `${`.

    Raises ValueError for a variable of the engine's own.
    """
    missing: list[str] = []

    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        if name is None:
            return "${"
        if name.startswith(OWN):
            raise ValueError(f"{name} is the engine's own; choose another variable")
        if not (known := os.environ.get(name)) and default is None:
            missing.append(name)
        return known or default or ""

    return _WRITTEN.sub(value, text), missing


def variables_in(text: str) -> list[str]:
    """The names of the variables that stand in a text."""
    return [found[1] for found in re.finditer(_VARIABLE, text)]


def variable(parts: Sequence[str], taken: set[str]) -> str:
    """`${VAR}` with a name out of the parts that is not taken yet, and now is."""
    name = re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper())[:200]
    name = f"_{name}" if name[0].isdigit() or name.startswith(OWN) else name
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    taken.add(unique)
    return f"${{{unique}}}"


def escaped(text: str) -> str:
    """The text as `expanded` gives it back."""
    return text.replace("${", "$${")


def placeholder(credential: str) -> str:
    """`${VAR}` of a credential that is one, its default left out, with the word before it (`Bearer ${VAR}`); or ""."""
    found = _CREDENTIAL.fullmatch(credential)
    return f"{found[1]}${{{found[2]}}}" if found else ""


def resolved(credential: str) -> str:
    """A credential, or the value of the variable that stands for it; Unprocessable where that has none."""
    return filled(credential) if placeholder(credential) else credential


def filled(text: str) -> str:
    """The text with the value of each variable in it; Unprocessable where one has none or is the engine's own."""
    try:
        whole, missing = expanded(text)
    except ValueError as error:
        raise Unprocessable(str(error), code="credential_missing") from error
    if missing:
        raise Unprocessable(f"The variable {missing[0]} holds a credential and is not set", code="credential_missing")
    return whole


class Credentials(Secrets):
    """Opens what is sealed, and where that is a `${VAR}`, answers with the variable's value."""

    def open(self, sealed: bytes) -> str:
        """The credential; Unprocessable where it was sealed with another key or its variable is not set."""
        return resolved(super().open(sealed))
