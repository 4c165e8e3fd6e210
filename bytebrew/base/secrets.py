"""Encrypts stored credentials with a key file in the data folder."""

import os
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from bytebrew.base.errors import BootError, Unprocessable


def write_private(path: Path, content: bytes) -> None:
    """Creates a file with mode 0600 atomically; FileExistsError if it exists."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    finally:
        Path(part).unlink()


class Secrets:
    """Encrypts short texts with XSalsa20-Poly1305 (libsodium's SecretBox)."""

    def __init__(self, key: bytes) -> None:
        self._box = SecretBox(key)

    @classmethod
    def load(cls, path: Path) -> "Secrets":
        """Loads the key file, which is created on first use."""
        try:
            if not path.exists():
                with suppress(FileExistsError):  # another process was first: use its key
                    write_private(path, random(SecretBox.KEY_SIZE).hex().encode() + b"\n")
            return cls(bytes.fromhex(path.read_text().strip()))
        except OSError as error:
            raise BootError(f"{path} cannot be used: {error.strerror}") from error
        except ValueError as error:
            raise BootError(f"{path} does not hold a key of 64 hex digits; restore it from your backup") from error

    def derived(self, purpose: bytes) -> "Secrets":
        """With a key derived for one purpose, whose texts cannot be decrypted for another."""
        return Secrets(blake2b(key=bytes(self._box), person=purpose, digest_size=SecretBox.KEY_SIZE).digest())

    def mac(self, message: bytes) -> bytes:
        """A code of 32 bytes (BLAKE2b with the key) that only a holder of the key file can compute."""
        return blake2b(message, key=bytes(self._box), digest_size=32).digest()

    def pseudonym(self, name: str) -> str:
        """What stands for a person's name in records: always the same, and no way back to it without the key."""
        digest = blake2b(name.encode(), key=bytes(self._box), person=b"pseudonym", digest_size=12)
        return f"forgotten-{digest.hexdigest()}"

    def seal(self, text: str) -> bytes:
        """The encrypted credential; an empty one stays empty."""
        return bytes(self._box.encrypt(text.encode())) if text else b""

    def open(self, sealed: bytes) -> str:
        """The decrypted credential; Unprocessable if it was encrypted with another key."""
        try:
            return self._box.decrypt(sealed).decode() if sealed else ""
        except CryptoError as error:
            message = "A stored credential was sealed with another key; restore keys/secrets.key or set it anew"
            raise Unprocessable(message, code="credential_sealed") from error
