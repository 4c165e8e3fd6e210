"""The one-time token of the sign-in link, also in a file that only the engine's user can read."""

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bytebrew import BootError

log = logging.getLogger(__name__)
NAME = "local-session.token"
"""Name of the file in the data folder."""


class SignInToken:
    """The only valid token, which several workers share; replaced at each start and after each use."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            self._write()
        except OSError as error:
            raise BootError(f"{self.path} cannot be written: {error.strerror}") from error

    @property
    def token(self) -> str:
        """The token; empty while a request takes it."""
        return _read(self.path)

    @contextmanager
    def taken(self, token: str) -> Iterator[bool]:
        """Yields whether this is the token, and replaces it afterwards, unless the block fails."""
        claimed = self.path.with_name(f".{NAME}.{secrets.token_hex(8)}")
        if not _equal(token, self.token) or not self._claim(token, claimed):
            yield False
            return
        try:
            yield True
        except BaseException:
            claimed.rename(self.path)
            raise
        try:
            self._write()
            claimed.unlink()
        except OSError as error:  # a full disk must not lock out the operator
            log.warning("%s cannot be written, so its token stays good: %s", self.path, error)
            claimed.rename(self.path)

    def _claim(self, token: str, claimed: Path) -> bool:
        """Whether the file was moved, which one request alone can do, and still held this token."""
        try:
            self.path.rename(claimed)
        except FileNotFoundError:
            return False
        if not (same := _equal(token, _read(claimed))):
            claimed.rename(self.path)
        return same

    def _write(self) -> None:
        handle, part = tempfile.mkstemp(prefix=f".{NAME}.", dir=self.path.parent)  # with mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{secrets.token_urlsafe(32)}\n")
            Path(part).replace(self.path)
        except OSError:
            Path(part).unlink(missing_ok=True)
            raise


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _equal(token: str, known: str) -> bool:
    return bool(known) and secrets.compare_digest(token.encode("latin-1", "replace"), known.encode())
