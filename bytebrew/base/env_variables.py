"""Resolves `${VAR}` and `${VAR:-default}` in configuration from the process's environment."""

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
    """The process's environment without the engine's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN)}


def expanded(text: str) -> tuple[str, list[str]]:
    """The text with its variables replaced, and the names of unset ones; `$${` escapes `${`.

    Raises ValueError for the engine's own variables.
    """
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name is None:
            return "${"
        if name.startswith(OWN):
            raise ValueError(f"{name} is the engine's own; choose another variable")
        if not (known := os.environ.get(name)) and default is None:
            missing.append(name)
        return known or default or ""

    return _WRITTEN.sub(value, text), missing


def variables_in(text: str) -> list[str]:
    """The names of the variables in a text."""
    return [match[1] for match in re.finditer(_VARIABLE, text)]


def variable(parts: Sequence[str], taken: set[str]) -> str:
    """`${VAR}` with a name made of the parts that is not in `taken`, to which it is added."""
    name = re.sub(r"[^A-Z0-9]", "_", "_".join(parts).upper())[:200]
    name = f"_{name}" if name[0].isdigit() or name.startswith(OWN) else name
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    taken.add(unique)
    return f"${{{unique}}}"


def escaped(text: str) -> str:
    """The text escaped, so that `expanded` returns it unchanged."""
    return text.replace("${", "$${")


def placeholder(credential: str) -> str:
    """The `${VAR}` that a credential consists of, without its default, with a leading word (`Bearer ${VAR}`); or ""."""
    match = _CREDENTIAL.fullmatch(credential)
    return f"{match[1]}${{{match[2]}}}" if match else ""


def resolved(credential: str) -> str:
    """A credential, resolved if it is a variable; Unprocessable if that is not set."""
    return filled(credential) if placeholder(credential) else credential


def filled(text: str) -> str:
    """The text with its variables replaced; Unprocessable for unset variables and the engine's own."""
    try:
        whole, missing = expanded(text)
    except ValueError as error:
        raise Unprocessable(str(error), code="credential_missing") from error
    if missing:
        raise Unprocessable(f"The variable {missing[0]} holds a credential and is not set", code="credential_missing")
    return whole


class Credentials(Secrets):
    """Decrypts credentials, and resolves those that are a `${VAR}`."""

    def open(self, sealed: bytes) -> str:
        """The credential; Unprocessable if it was encrypted with another key, or its variable is not set."""
        return resolved(super().open(sealed))
