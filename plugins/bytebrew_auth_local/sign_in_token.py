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
    """The only valid token; replaced at each start and after each use."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            self.token = self._written()
        except OSError as error:
            raise BootError(f"{self.path} cannot be written: {error.strerror}") from error

    @contextmanager
    def taken(self, token: str) -> Iterator[bool]:
        """Yields whether this is the token, and replaces it afterwards, unless the block fails."""
        if not self.token or not secrets.compare_digest(token.encode("latin-1", "replace"), self.token.encode()):
            yield False
            return
        kept, self.token = self.token, ""
        try:
            yield True
            self.token = self._renewed()
        finally:
            self.token = self.token or kept

    def _renewed(self) -> str:
        try:
            return self._written()
        except OSError as error:  # a full disk must not lock out the operator
            log.warning("%s cannot be written, so its token stays good: %s", self.path, error)
            return ""

    def _written(self) -> str:
        token = secrets.token_urlsafe(32)
        handle, part = tempfile.mkstemp(prefix=f".{NAME}.", dir=self.path.parent)  # with mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{token}\n")
            Path(part).replace(self.path)
        except OSError:
            Path(part).unlink(missing_ok=True)
            raise
        return token
