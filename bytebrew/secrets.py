"""Sealing of stored credentials with a key file that lies beside the database."""

import os
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from bytebrew.errors import BootError


def write_private(path: Path, content: bytes) -> None:
    """Creates a file that its owner alone may read (0600), whole or not at all; FileExistsError if it is there."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    finally:
        part.unlink()


class Secrets:
    """Seals and opens short texts with XSalsa20-Poly1305 (libsodium's SecretBox)."""

    def __init__(self, key: bytes) -> None:
        self._box = SecretBox(key)

    @classmethod
    def load(cls, path: Path) -> "Secrets":
        """The key in the file, made on first use."""
        if not path.exists():
            write_private(path, random(SecretBox.KEY_SIZE).hex().encode() + b"\n")
        try:
            return cls(bytes.fromhex(path.read_text().strip()))
        except ValueError as error:
            raise BootError(f"{path} does not hold a key of 64 hex digits; restore it from your backup") from error

    def seal(self, text: str) -> bytes:
        """The sealed form of a credential; empty stays empty."""
        return bytes(self._box.encrypt(text.encode())) if text else b""

    def open(self, sealed: bytes) -> str:
        """The credential; BootError where it was sealed with another key."""
        try:
            return self._box.decrypt(sealed).decode() if sealed else ""
        except CryptoError as error:
            raise BootError("a stored credential was sealed with another key; restore keys/secrets.key") from error
