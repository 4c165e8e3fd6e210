"""Headers of requests whose messages wait for another node: sealed in the database until their turns begin."""

import logging
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from bytebrew.base.errors import EngineError, StorageError
from bytebrew.base.secrets import Secrets
from bytebrew.store import turns
from bytebrew.store.database.database import Database

log = logging.getLogger(__name__)


class SealedHeaders:
    """Seals and opens headers with the key that all nodes have."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets.derived(b"headers")

    def seal(self, headers: Mapping[str, str]) -> bytes | None:
        """The headers as they are stored; None if there are none."""
        return self._secrets.seal(msgspec.json.encode(headers).decode()) if headers else None

    async def keep(self, db: Database, session_id: str, turn_id: str, headers: Mapping[str, str]) -> None:
        """Stores the headers of a message that another node goes on with; without them if that fails."""
        with suppress(StorageError):
            await db.write_in(session_id, turns.keep_headers, turn_id, self.seal(headers))

    def open(self, turn_id: str, sealed: bytes | None) -> Mapping[str, str]:
        """The stored headers of a turn; none, and a line in the log, if the key does not open them."""
        if sealed is None:
            return {}
        try:
            return msgspec.json.decode(self._secrets.open(sealed), type=dict[str, str])
        except (EngineError, msgspec.MsgspecError):
            log.warning("keys/secrets.key does not open the headers of turn %s: its tools do not get them", turn_id)
            return {}
