"""Address policy: any address for operators, public ones for others, metadata services only if listed."""

import errno
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from bytebrew.base.errors import SettingsError

_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_SPECIAL = [ip_network(one) for one in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "2002::/16")]
"""Metadata services of Azure and Oracle, and 6to4: `ipaddress` does not count them as private."""
_METADATA = [
    ip_network(one)
    for one in (
        *("169.254.0.0/16", "fe80::/10"),  # link-local: AWS, Google, Azure, DigitalOcean, ECS (RFC 3927, RFC 4291)
        *("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),  # Azure, Alibaba, Oracle
        *("fd00:ec2::/32", "fd20:ce::254/128"),  # AWS and Google over IPv6
    )
]

Address = IPv4Address | IPv6Address
Sockets = Callable[[tuple[Any, ...]], socket.socket]
"""Creates the socket for a connection to an address, or raises PermissionError."""


def parse(address: str) -> Address:
    """An IP address without its zone; ValueError for anything else.

    Embedded IPv4 addresses (RFC 4291 section 2.5.5.2, RFC 6052) are returned as such.
    """
    one = ip_address(address.partition("%")[0])
    if isinstance(one, IPv6Address):
        return one.ipv4_mapped or (IPv4Address(int(one) & 0xFFFFFFFF) if one in _NAT64 else one)
    return one


def is_public(address: str) -> bool:
    """Whether an IP address is public: not loopback, private, link-local, multicast, metadata or reserved."""
    one = parse(address)
    if isinstance(one, IPv6Address) and one not in _GLOBAL_UNICAST:
        return False
    return one.is_global and not (one.is_multicast or one.is_reserved or any(one in special for special in _SPECIAL))


def is_metadata(address: str) -> bool:
    """Whether an IP address is link-local or a cloud's metadata service, which hands out credentials."""
    one = parse(address)
    return any(one in network for network in _METADATA)


def listed(texts: Iterable[str]) -> frozenset[Address]:
    """The operator's list of allowed link-local addresses; SettingsError if one is invalid."""
    found = set()
    for text in texts:
        try:
            needed = is_metadata(text)
        except ValueError as error:
            message = f"BYTEBREW_LINK_LOCAL_ADDRESSES: '{text}' is no IP address; write one such as 169.254.169.254"
            raise SettingsError(message) from error
        if not needed:
            message = f"BYTEBREW_LINK_LOCAL_ADDRESSES: {text} is not link-local and no cloud's metadata; leave it out"
            raise SettingsError(message)
        found.add(parse(text))
    return frozenset(found)


def sockets(allowed: frozenset[Address], *, public_only: bool) -> Sockets:
    """The socket factory of the policy: it checks the resolved address, so that DNS rebinding cannot evade it."""

    def made(where: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (address, *_) = where
        if public_only and not is_public(address):
            raise PermissionError(errno.EACCES, "that is no public address")  # users must not learn which it is
        if is_metadata(address) and parse(address) not in allowed:
            message = (
                f"{address} is link-local, as a cloud's metadata is; BYTEBREW_LINK_LOCAL_ADDRESSES lists those to call"
            )
            raise PermissionError(errno.EACCES, message)
        return socket.socket(family, kind, protocol)

    return made
