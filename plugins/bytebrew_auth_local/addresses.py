"""Callers' addresses."""

import ipaddress
from collections.abc import Iterable

from bytebrew import ip_of


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or localhost."""
    ip = ip_of(host)
    return host == "localhost" if ip is None else ip.is_loopback


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an address belongs to one of the networks."""
    ip = ip_of(address)
    return ip is not None and any(ip in ipaddress.ip_network(text, strict=False) for text in networks)


def network_of(address: str) -> str:
    """The address block of one client: an IPv4 address or an IPv6 /64."""
    ip = ip_of(address)
    if ip is None:
        return ""
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
