"""Options: what an operator changes while the engine runs, through the settings routes."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.errors import Detail, InvalidRequest, NotFound

CUSTOM = "custom."
"""Keys with this beginning hold any JSON value, for the operator's own use."""
_MOST = 65536


class Option(Struct, frozen=True, kw_only=True):
    """A key that is known; `type` is anything that msgspec can convert to."""

    key: str
    type: Any
    default: Any
    help: str


class Options:
    """The keys that are known."""

    def __init__(self, options: Iterable[Option]) -> None:
        self._options = {option.key: option for option in options}

    def __iter__(self) -> Iterator[Option]:
        return iter(self._options.values())

    def named(self, key: str) -> Option:
        """The option of this key; NotFound where there is none."""
        if key.startswith(CUSTOM) and len(key) <= 255:
            return Option(key=key, type=Any, default=None, help="the operator's own")
        if key not in self._options:
            raise NotFound(f"There is no setting '{key[:255]}'; GET /api/v1/settings lists them, custom.* is free")
        return self._options[key]

    def checked(self, key: str, value: Any) -> Any:
        """The value as the option's type; InvalidRequest where it does not fit."""
        option = self.named(key)
        try:
            fitting = msgspec.convert(value, option.type, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{key}: {error}", details=[Detail("$.value", str(error))]) from error
        if len(msgspec.json.encode(fitting)) > _MOST:
            details = [Detail("$.value", f"is longer than {_MOST} bytes")]
            raise InvalidRequest(f"{key}: the value is too long", details=details)
        return fitting
