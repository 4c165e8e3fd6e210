"""Formats: identifiers, times in RFC 3339, durations as Go writes them, addresses, rows of the database as structs."""

import ipaddress
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol, TypeVar, cast, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

S = TypeVar("S", bound=Struct)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_COMMON = (
    "host authorization user-agent accept accept-encoding accept-language connection origin cookie content-type"
    " content-length last-event-id x-forwarded-for x-forwarded-proto"
)
_HEADERS = {name.encode(): name for name in _COMMON.split()}
"""Names that most requests have, each one object: the requests of streams stay in memory for long."""
_PART = re.compile(r"(\d{1,12}(?:\.\d+)?)(ms|s|m|h|d)")


def new_uuid() -> str:
    """A UUID of version 7 (RFC 9562), ordered by time, so that rows of one time are stored together."""
    noise = int.from_bytes(os.urandom(10))
    value = _milliseconds() << 80 | 7 << 76 | (noise >> 62 & 0xFFF) << 64 | 2 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_id(prefix: str) -> str:
    """`prefix_` and 24 hex digits: the time in milliseconds and 48 random bits. Not a secret."""
    return f"{prefix}_{_milliseconds():012x}{random.getrandbits(48):012x}"


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID, in either case (RFC 9562 section 4)."""
    return _UUID.fullmatch(text) is not None


def canonical_id(text: str) -> str:
    """The stored form of an id: UUIDs in lower case, others unchanged."""
    return text.lower() if len(text) == 36 and is_uuid(text) else text


class Duration(float):
    """Seconds, read from text such as `90s`, `15m`, `1h30m`, `7d` or a bare number of seconds."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Raises ValueError for anything but the forms above."""
        if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
            return cls(float(text))
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text!r} is not a duration: write it like 90s, 15m or 1h30m")
        return cls(sum(float(number) * _UNITS[unit] for number, unit in parts))


class IpNetwork(str):
    """An IP address or a network (CIDR) that is not all addresses."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "IpNetwork":
        """Raises ValueError for anything else."""
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise ValueError(f"{error}; write an address or a network, like 10.0.0.7 or 10.0.0.0/8") from error
        if not network.prefixlen:
            raise ValueError(f"{text} is everybody; name the addresses or networks that are meant")
        return cls(network)


def uptime(seconds: float) -> str:
    """`2h34m12s`, whole seconds, as Go prints a duration."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def rfc3339(moment: datetime) -> str:
    """UTC with `Z` and microseconds, of fixed width, so that texts sort by time."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def now() -> str:
    """The current time in RFC 3339."""
    return rfc3339(datetime.now(UTC))


def parse_time(text: str) -> datetime:
    """A time from RFC 3339 text with an offset or `Z`; ValueError otherwise."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: end it with Z")
    return moment.astimezone(UTC)


class Columns(Protocol):
    """A row of the database."""

    def keys(self) -> Iterable[str]:
        """The names of its columns, in order."""

    def __iter__(self) -> Iterator[Any]:
        """Their values."""


def columns_of(row: Columns) -> dict[str, Any]:
    """The columns of a row by name, sooner than `dict`, which looks each up; the first of equal names counts."""
    return dict(zip(reversed([*row.keys()]), reversed([*row]), strict=True))


def struct_of(row: Columns | dict[str, Any], kind: type[S], rest: str = "") -> S:
    """A row as a struct with the same names; its lists and objects are stored as JSON text.

    `rest` is the field for columns that are no fields and hold lists: an object by their names.
    """
    values = {**row} if isinstance(row, dict) else columns_of(row)
    if rest:
        more = {name: values.pop(name) for name in sorted(values.keys() - kind.__struct_fields__)}
        values[rest] = {name: msgspec.json.decode(text) for name, text in more.items() if str(text)[:1] == "["}
    for name in _json_fields(kind):
        if name != rest and (text := values[name]) is not None:
            values[name] = msgspec.json.decode(text)
    return msgspec.convert(values, kind, strict=False)


def narrowed(kind: type[S], *fields: tuple[str, Any] | tuple[str, Any, Any], **namespace: Any) -> type[S]:
    """A subclass with the same name and fields that are new or have other types; a field with a default keeps one."""
    namespace = {"__doc__": kind.__doc__, "__module__": kind.__module__, **namespace}
    made = msgspec.defstruct(kind.__name__, fields, bases=(kind,), namespace=namespace, frozen=True, kw_only=True)
    return cast("type[S]", made)


@cache
def _json_fields(kind: type[Struct]) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in msgspec.structs.fields(kind)
        if any(_is_json(part) for part in (field.type, *get_args(field.type)))
    )


def _is_json(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list, dict) or (isinstance(kind, type) and issubclass(kind, Struct))


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address of a text, an IPv4 one where it is mapped into IPv6; None if it is none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def is_known_host(header: str, listening: str) -> bool:
    """Whether a Host header is an IP address, localhost, or the configured host, which prevents DNS rebinding."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", listening) or name.endswith(".localhost") or ip_of(name) is not None


def headers_by_name(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of a request, whose names are in lower case; lines of the same name are a list."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in lines:
        name, value = _HEADERS.get(raw_name) or raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
