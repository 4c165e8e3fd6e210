"""The key pair that signs and verifies local sessions."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import bytebrew
from bytebrew import BootError, Engine, SigningKey

log = logging.getLogger(__name__)


class Keys(Protocol):
    """What signs and verifies local sessions."""

    def current(self) -> SigningKey | None:
        """The key; None if it cannot be read."""


class SharedKey:
    """A key that all nodes have which share a database and so the key file: a session of one is good on all."""

    def __init__(self, engine: Engine) -> None:
        self._key = SigningKey(engine.secrets.derived(b"local-sessions").mac(b"seed"))

    def current(self) -> SigningKey | None:
        """The key."""
        return self._key


class KeyPair:
    """An Ed25519 pair in a folder, created on first use: `.priv` has seed and public key in hex, `.pub` the public key.

    Deleting or replacing it while the engine runs invalidates every session that it signed, at once.
    """

    def __init__(self, folder: Path) -> None:
        self._private, self._public = folder / "jwt_ed25519.priv", folder / "jwt_ed25519.pub"
        self._seen: tuple[int, int, int] | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key: SigningKey | None = self._load()

    def current(self) -> SigningKey | None:
        """The key currently in the file; None if it cannot be read, which is logged once."""
        try:
            version = _version(self._private.stat())
        except OSError:
            version = None
        if version is None or version != self._seen:
            try:
                self._key = self._load()
            except (BootError, OSError) as error:
                if self._key is not None:
                    log.error("no local session is good until the key pair is back: %s", error)
                self._key, self._seen = None, version
        return self._key

    def _load(self) -> SigningKey:
        private = self._private
        if not private.exists():
            key = SigningKey.generate()
            with suppress(FileExistsError):  # another process was first: use its pair
                bytebrew.write_private(private, (bytes(key) + bytes(key.verify_key)).hex().encode() + b"\n")
        with private.open("rb") as file:
            version, text = _version(os.fstat(file.fileno())), file.read()
        try:
            raw = bytes.fromhex(text.decode().strip())
            key = SigningKey(raw[:32])
            if len(raw) != 64 or bytes(key.verify_key) != raw[32:]:
                raise ValueError("seed and public key do not belong together")
        except ValueError as error:
            raise BootError(f"{private} holds no Ed25519 key pair ({error}); restore or remove it") from error
        line = bytes(key.verify_key).hex() + "\n"
        if not self._public.exists() or self._public.read_text() != line:
            self._public.write_text(line)
        self._seen = version
        return key


def _version(status: os.stat_result) -> tuple[int, int, int]:
    """Identifies a version of a file; the modification time alone is not unique."""
    return status.st_mtime_ns, status.st_ino, status.st_size
