"""Callers' addresses and Host headers."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or localhost."""
    ip = _ip(host)
    return host == "localhost" if ip is None else ip.is_loopback


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an address belongs to one of the networks."""
    ip = _ip(address)
    return ip is not None and any(ip in ipaddress.ip_network(text, strict=False) for text in networks)


def is_known_host(header: str, listening: str) -> bool:
    """Whether a Host header is an IP address, localhost, or the configured host, which prevents DNS rebinding."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", listening) or name.endswith(".localhost") or _ip(name) is not None


def network_of(address: str) -> str:
    """The address block of one client: an IPv4 address or an IPv6 /64."""
    ip = _ip(address)
    if ip is None:
        return ""
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
