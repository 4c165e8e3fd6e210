"""Runtime options: settings that an operator changes while the engine runs, through the settings routes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.base.errors import Detail, InvalidRequest, NotFound
from bytebrew.base.formats import rfc3339
from bytebrew.base.validation import readable
from bytebrew.contract.connection import Connection

log = logging.getLogger(__name__)

CUSTOM = "custom."
"""Prefix of keys that hold any JSON value, for the operator's own use."""
_MOST = 65536


class Option(Struct, frozen=True, kw_only=True):
    """A known key; `type` is any type that msgspec converts to.

    `applied` is called with each new value of the key, including the default after a reset.
    """

    key: str
    type: Any
    default: Any
    help: str
    applied: Callable[[Any], None] | None = None
    before: str = ""


class Options:
    """The known keys, with their current values."""

    def __init__(self, options: Iterable[Option]) -> None:
        self._options = {option.key: option for option in _in_order(options)}
        self._values = {option.key: option.default for option in self}
        self._watchers = {option.key: [option.applied] if option.applied else [] for option in self}

    def __iter__(self) -> Iterator[Option]:
        return iter(self._options.values())

    def named(self, key: str) -> Option:
        """The option with this key; NotFound if there is none."""
        if key.startswith(CUSTOM) and len(key) <= 255:
            return Option(key=key, type=Any, default=None, help="the operator's own")
        if key not in self._options:
            raise NotFound(f"There is no setting '{key[:255]}'; GET /api/v1/settings lists them, custom.* is free")
        return self._options[key]

    def checked(self, key: str, value: Any) -> Any:
        """The value as the option's type; InvalidRequest if it does not fit."""
        option = self.named(key)
        try:
            fitting = msgspec.convert(value, option.type, strict=False)
        except msgspec.ValidationError as error:
            words = readable(str(error), option.type)
            raise InvalidRequest(f"{key}: {words}", details=[Detail("$.value", words)]) from error
        if len(msgspec.json.encode(fitting)) > _MOST:
            details = [Detail("$.value", f"is longer than {_MOST} bytes")]
            raise InvalidRequest(f"{key}: the value is too long", details=details)
        return fitting

    def watch(self, key: str, applied: Callable[[Any], None]) -> None:
        """Calls `applied` with the current value, and with each new value of the key."""
        self._watchers[key].append(applied)
        applied(self._values[key])

    def apply(self, stored: Mapping[str, Any]) -> None:
        """Applies the stored values, and the defaults of all other keys, if they differ from the current values."""
        for option in self:
            value = option.default
            if option.key in stored:
                try:
                    value = msgspec.convert(stored[option.key], option.type, strict=False)
                except msgspec.ValidationError as error:  # the value was stored by an older version
                    log.warning("the setting %s stays at its default: %s", option.key, error)
            if value != self._values[option.key]:
                for applied in self._watchers[option.key]:
                    applied(value)
                self._values[option.key] = value


def _in_order(options: Iterable[Option]) -> list[Option]:
    """The options, sorted by `before`."""
    ordered: list[Option] = []
    for option in options:
        keys = [one.key for one in ordered]
        ordered.insert(keys.index(option.before) if option.before in keys else len(keys), option)
    return ordered


def option_value(conn: Connection, option: Option) -> Any:
    """The stored value of an option, or its default."""
    row = conn.execute("select value from settings where key = ?", (option.key,)).fetchone()
    return msgspec.json.decode(row[0]) if row else option.default


def expired_before(conn: Connection, option: Option) -> str:
    """The time that many days ago, in RFC 3339; "" for 0 days, which sorts before all times."""
    days = option_value(conn, option)
    return rfc3339(datetime.now(UTC) - timedelta(days=days)) if days else ""
