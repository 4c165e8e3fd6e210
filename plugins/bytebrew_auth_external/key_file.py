"""An issuer's public keys in a file, which is read again when it changes."""

import logging
import math
import time
from pathlib import Path

import bytebrew
from bytebrew import PublicKeys, SettingsError

log = logging.getLogger(__name__)

BROKEN_SECONDS = 60.0
"""How long the last keys stay valid while the file cannot be read, for example half written."""


class KeyFile:
    """The keys in the file BYTEBREW_JWT_PUBLIC_KEY_PATH."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: PublicKeys = {}
        self._seen: tuple[int, int, int] | None = None
        self._broken_since = math.inf

    async def start(self) -> None:
        """Reads the file; SettingsError if it is invalid."""
        self._load()

    async def stop(self) -> None:
        """Nothing runs."""

    def current(self) -> PublicKeys:
        """The keys that are in the file now; none once it is deleted, or was invalid for too long."""
        path = self._path
        try:
            if _version(path) != self._seen:
                self._broken_since = min(self._broken_since, time.monotonic())
                self._load()
        except FileNotFoundError:
            if self._keys:
                log.error("BYTEBREW_JWT_PUBLIC_KEY_PATH: %s is gone, so no JWT is good until it is back", path)
            self._keys, self._seen = {}, None
        except OSError:
            self._broken_since, self._seen = min(self._broken_since, time.monotonic()), None
        except SettingsError as error:
            log.error("the keys that were read last stay in force for %g s: %s", BROKEN_SECONDS, error)
        if self._keys and time.monotonic() - self._broken_since > BROKEN_SECONDS:
            log.error("BYTEBREW_JWT_PUBLIC_KEY_PATH: %s has no key, so no JWT is good until it has", path)
            self._keys = {}
        return self._keys

    async def renew(self) -> bool:
        """False: `current` has read what is new."""
        return False

    def _load(self) -> None:
        path = self._path
        try:
            self._seen = _version(path)
            self._keys = bytebrew.read_public_keys(path.read_text())
        except (OSError, ValueError) as error:
            raise SettingsError(f"BYTEBREW_JWT_PUBLIC_KEY_PATH: {path} holds no usable public key: {error}") from error
        self._broken_since = math.inf


def _version(path: Path) -> tuple[int, int, int]:
    """Identifies a version of a file; the modification time alone is not unique."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size
