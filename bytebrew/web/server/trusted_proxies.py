"""The client behind trusted proxies, by X-Forwarded-* and Forwarded (RFC 7239)."""

import ipaddress
import logging
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from starlette.types import Scope

from bytebrew.base.formats import IpNetwork, ip_of

log = logging.getLogger(__name__)

MOST_HOPS = 64
"""Entries of a header that are read, from its end; a client may write any number before those of the proxies."""
MOST_LOGGED = 100
"""Limit of proxies whose contradictory headers are logged, once each."""
_NAME = r"[\w!#$%&'*+.^`|~-]+"  # RFC 9110 section 5.6.2
_PAIR = rf'({_NAME})=({_NAME}|"(?:[^"\\]|\\.)*+")'
_ELEMENT = re.compile(rf"[ \t]*{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*+[ \t]*", re.ASCII)
_PAIRS = re.compile(_PAIR, re.ASCII)
_NODE = re.compile(r"\[([^\]]*)\](?::\w+)?|([0-9.]+):\w+", re.ASCII)
_SCHEMES = ("http", "https")
_Headers = Iterable[tuple[bytes, bytes]]


class Caller(NamedTuple):
    """The client's address, and scheme and host of its request; `host` is empty where it is the header Host."""

    address: str
    scheme: str = "http"
    host: str = ""


class TrustedProxies:
    """Believes the headers of proxies in these networks; in those of others a client may have written anything."""

    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]
        self._logged: set[str] = set()

    def apply(self, scope: Scope) -> None:
        """Sets `client`, `scheme` and `host` of a request to those of its caller, and `peer` to the former client."""
        if (peer := scope.get("client")) and self._trusts(peer[0]):
            address, scope["scheme"], scope["host"] = self._caller(Caller(peer[0], scope["scheme"]), scope["headers"])
            scope["peer"], scope["client"] = peer, peer if address == peer[0] else (address, 0)

    def _caller(self, peer: Caller, headers: _Headers) -> Caller:
        """The caller of a request: the nearest address that is no trusted proxy's.

        A proxy writes one of the two headers and may pass on the client's own other one. Where both lead to different
        clients, the proxy itself is the caller.
        """
        listed, elements = _joined(headers, b"x-forwarded-for"), _joined(headers, b"forwarded")
        if elements is None:
            return self._by_list(peer, listed or "", headers)
        by_elements = self._nearest(peer, _elements(elements))
        if listed is None:
            return by_elements
        by_list = self._by_list(peer, listed, headers)
        if by_list.address == by_elements.address:
            return by_list
        self._log(peer.address)
        return peer

    def _by_list(self, peer: Caller, listed: str, headers: _Headers) -> Caller:
        """The caller by X-Forwarded-For, with scheme and host of the other headers as the nearest proxy has them."""
        address = self._nearest(peer, ({"for": entry} for entry in _last_parts(listed))).address
        scheme = _last(headers, b"x-forwarded-proto").lower()
        return Caller(address, scheme if scheme in _SCHEMES else peer.scheme, _last(headers, b"x-forwarded-host"))

    def _nearest(self, peer: Caller, hops: Iterable[dict[str, str]]) -> Caller:
        """The first of the hops, the nearest first, that is no trusted proxy; what precedes a hidden one is unknown."""
        caller = peer
        for hop in hops:
            if not (address := _address(hop.get("for", ""))):
                break
            scheme = hop.get("proto", "").lower()
            caller = Caller(address, scheme if scheme in _SCHEMES else peer.scheme, hop.get("host", ""))
            if not self._trusts(address):
                break
        return caller

    def _trusts(self, address: str) -> bool:
        ip = ip_of(address)
        return ip is not None and any(ip in network for network in self._networks)

    def _log(self, proxy: str) -> None:
        if proxy not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(proxy)
            text = "X-Forwarded-For and Forwarded from %s name different clients, so that neither is believed; "
            log.warning(text + "let the proxy remove the one that it does not write", proxy)


def _joined(headers: _Headers, name: bytes) -> str | None:
    """The lines of a header as one list (RFC 9110 section 5.3); None without it."""
    lines = [value.decode("latin-1") for key, value in headers if key == name]
    return ",".join(lines) if lines else None


def _last_parts(text: str) -> list[str]:
    return text.rsplit(",", MOST_HOPS)[: -MOST_HOPS - 1 : -1]


def _last(headers: _Headers, name: bytes) -> str:
    return (_joined(headers, name) or "").rpartition(",")[2].strip()


def _elements(text: str) -> Iterator[dict[str, str]]:
    """The elements of Forwarded from its end, as a client's unclosed quote may precede those of the proxies."""
    element = ""
    for part in _last_parts(text):
        element = f"{part},{element}" if element else part  # a comma within quotes
        if _ELEMENT.fullmatch(element):
            pairs = [(name.lower(), _unquoted(value)) for name, value in _PAIRS.findall(element)]
            if len(dict(pairs)) < len(pairs):
                return
            yield dict(pairs)
            element = ""


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _address(node: str) -> str:
    """The IP address of an entry, which may have a port (RFC 7239 section 6); empty if it has none."""
    node = node.strip()
    if found := _NODE.fullmatch(node):
        node = found[1] or found[2] or ""
    ip = ip_of(node) if "%" not in node else None
    return str(ip) if ip is not None else ""
