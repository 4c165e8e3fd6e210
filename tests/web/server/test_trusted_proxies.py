"""The client's address, scheme and host: those that trusted proxies name, and nobody else's."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew import Actor, AuthMode, Reply, Request, Route, SettingsError, own_origin
from bytebrew.base.formats import IpNetwork
from bytebrew.base.settings import Core, read
from bytebrew.testing import plugin, served_engine
from bytebrew.web.server.trusted_proxies import MOST_HOPS, Caller, TrustedProxies

PROXY, CDN, CLIENT, OTHER = "10.0.0.7", "198.18.0.9", "203.0.113.5", "203.0.113.66"
TRUSTED = TrustedProxies([IpNetwork.parse("10.0.0.0/8"), IpNetwork.parse(CDN), IpNetwork.parse("fd00::/8")])
Lines = Sequence[tuple[str, str]]


def caller(lines: Lines, peer: str = PROXY, proxies: TrustedProxies = TRUSTED) -> Caller:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in lines]
    scope: dict[str, Any] = {"type": "http", "scheme": "http", "client": (peer, 1), "headers": headers}
    proxies.apply(scope)
    assert scope.get("peer", (peer, 1)) == (peer, 1)
    return Caller(scope["client"][0], scope["scheme"], scope.get("host", ""))


def test_nobody_is_believed_by_default() -> None:
    nobody = TrustedProxies(Core().trusted_proxies)
    lines = [("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example")]
    for peer in (PROXY, "127.0.0.1", "::1", ""):
        assert caller(lines, peer, nobody) == Caller(peer)
        assert caller([("Forwarded", f"for={CLIENT};proto=https;host=a.example")], peer, nobody) == Caller(peer)


@pytest.mark.parametrize(
    ("listed", "address"),
    [
        (CLIENT, CLIENT),
        (f"{OTHER}, {CLIENT}", CLIENT),  # the client itself wrote the first
        (f"{OTHER},{CLIENT},{CDN} , 10.9.9.9", CLIENT),
        (f"10.1.1.1, {CLIENT}", CLIENT),
        (f"{CLIENT}:4711", CLIENT),
        ("[2001:db8::5]:4711, 10.0.0.1", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("2001:DB8:0::5", "2001:db8::5"),
        (f"::ffff:{CLIENT}", CLIENT),
        ("fd00::1, ::ffff:10.0.0.1", "fd00::1"),  # a request of a proxy's own
        ("", PROXY),
        ("unknown", PROXY),
        (f"{CLIENT}, nonsense", PROXY),
        (f"{CLIENT}, , ", PROXY),
        (f"{CLIENT}, fe80::1%eth0", PROXY),
        (f"{CLIENT}, 10.0.0.1 10.0.0.2", PROXY),
        (f"{CLIENT}, unknown, {CDN}", CDN),
        (",".join([CLIENT, *["10.0.0.1"] * MOST_HOPS]), "10.0.0.1"),  # so long a chain is made up
    ],
)
def test_the_client_is_the_last_address_of_the_list_that_is_no_trusted_proxy(listed: str, address: str) -> None:
    assert caller([("X-Forwarded-For", listed)]).address == address


def test_a_header_on_several_lines_is_one_list() -> None:
    assert caller([("X-Forwarded-For", OTHER), ("x-forwarded-for", f"{CLIENT}, {CDN}")]).address == CLIENT
    assert caller([("X-Forwarded-For", CLIENT), ("Accept", "*/*"), ("X-Forwarded-For", CDN)]).address == CLIENT


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        (f"for={CLIENT}", Caller(CLIENT)),
        (f"For={CLIENT};Proto=https;HOST=a.example;by=_x", Caller(CLIENT, "https", "a.example")),
        (f'for={OTHER};host=evil, for="{CLIENT}:80" ; proto=HTTPS', Caller(CLIENT, "https")),
        ('for="[2001:db8::5]:_p"', Caller("2001:db8::5")),
        (
            f'for={CLIENT};host="a.example:8443", for={CDN};proto=https;host=inner',
            Caller(CLIENT, host="a.example:8443"),
        ),
        (f'for={CLIENT};ext="a, for={OTHER}"', Caller(CLIENT)),
        (f'for={CLIENT};ext="a\\", for={OTHER}"', Caller(CLIENT)),
        (f'for="{OTHER}, for={CLIENT}', Caller(CLIENT)),  # a client that tries to swallow what follows
        (f"nonsense, for={CLIENT};proto=ftp", Caller(CLIENT)),
        ("for=unknown", Caller(PROXY)),
        ("for=_hidden;proto=https", Caller(PROXY)),
        ("proto=https", Caller(PROXY)),
        (f"for={OTHER};for={CLIENT}", Caller(PROXY)),
        (f"for={CLIENT};", Caller(PROXY)),
        (f"for={CLIENT}, nonsense", Caller(PROXY)),
        (f"for= {CLIENT}", Caller(PROXY)),
        ("", Caller(PROXY)),
    ],
)
def test_the_elements_of_rfc_7239_are_read_from_their_end(elements: str, expected: Caller) -> None:
    assert caller([("Forwarded", elements)]) == expected


def test_scheme_and_host_are_those_of_the_nearest_proxy() -> None:
    lines = [("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "http, HTTPS"), ("X-Forwarded-Host", "x, a.example")]
    assert caller(lines) == Caller(CLIENT, "https", "a.example")
    assert caller(lines[1:]) == Caller(PROXY, "https", "a.example")
    assert caller([("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "gopher")]) == Caller(CLIENT)


def test_a_header_that_the_proxy_only_passed_on_makes_no_other_client(caplog: pytest.LogCaptureFixture) -> None:
    proxies = TrustedProxies([IpNetwork.parse(PROXY)])
    own, made_up = f"for={CLIENT};proto=https", f"for={OTHER}"
    assert caller([("X-Forwarded-For", CLIENT), ("Forwarded", own)], proxies=proxies).address == CLIENT
    assert not caplog.records
    for listed, element in ((CLIENT, made_up), (OTHER, own), (CLIENT, "nonsense"), ("nonsense", own)):
        lines = [("X-Forwarded-For", listed), ("Forwarded", element), ("X-Forwarded-Proto", "https")]
        assert caller(lines, proxies=proxies) == Caller(PROXY)
    [record] = caplog.records
    assert PROXY in record.getMessage()


ADDRESSES = st.one_of(
    st.ip_addresses(v=4), st.ip_addresses(v=6), st.integers(0, 2**24 - 1).map(lambda low: IPv4Address((10 << 24) + low))
)
WRITTEN = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=40)


def trusted(address: IPv4Address | IPv6Address) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    return str(plain).startswith("10.") or str(plain) == CDN or (plain.version == 6 and plain.packed[0] == 0xFD)


@given(client=ADDRESSES, hops=st.lists(ADDRESSES.filter(trusted), max_size=5), before=WRITTEN)
def test_whatever_a_client_writes_it_is_who_the_proxies_saw(
    client: IPv4Address | IPv6Address, hops: list[IPv4Address], before: str
) -> None:
    if trusted(client):
        return
    expected = str(getattr(client, "ipv4_mapped", None) or client)
    chain = ", ".join([before, *map(str, [client, *hops])])
    assert caller([("X-Forwarded-For", chain)]).address == expected
    nodes = [f'"[{one}]"' if one.version == 6 else str(one) for one in (client, *hops)]
    assert caller([("Forwarded", ", ".join([before, *(f"for={node};proto=https" for node in nodes)]))]) in (
        Caller(expected, "https"),
    )


@given(lines=st.lists(st.tuples(st.sampled_from(["X-Forwarded-For", "Forwarded", "X-Forwarded-Proto"]), WRITTEN)))
def test_what_is_no_header_of_a_proxy_names_nobody(lines: list[tuple[str, str]]) -> None:
    who = caller(lines)
    assert who.address == PROXY or IPv4Address(who.address) or IPv6Address(who.address)
    assert who.scheme in ("http", "https")
    assert caller(lines, "192.0.2.1") == Caller("192.0.2.1")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_a_header_of_commas_takes_no_time(name: str) -> None:
    for text in ("," * 16_000, 'for="' + "," * 16_000, "for=1" * 5_000, "a=" + '"\\,' * 5_000, "10.0.0.1," * 4_000):
        caller([(name, text)])  # the time limit of the test is what this would exceed


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0", "proxy.example", "10.0.0.0/33", "0.0.0.0/0", "::/0", "*"])
def test_what_names_no_network_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^BYTEBREW_TRUSTED_PROXIES: .*(write an address|is everybody)"):
        read({"BYTEBREW_TRUSTED_PROXIES": f"10.0.0.1, {text}"}, [Core])


class Gateway(AuthMode):
    """Knows whom the gateway in front has logged in."""

    name = "gateway"

    async def identify(self, request: Request[Any]) -> Actor | None:
        return Actor(subject="user:anna", name="anna", kind="user", scopes=frozenset({"admin"}))


async def see(request: Request[None]) -> Reply:
    """What a route sees of its caller."""
    peer = request.connection[0][0] if request.connection else ""
    return Reply(body={"client": request.client, "origin": own_origin(request), "peer": peer})


ROUTE = Route("GET", "/api/v1/see", None, see, "See", answer=dict[str, str])
SEE = plugin("see", register_routes=lambda register: register(ROUTE))
GATEWAY = plugin("gateway", register_auth_modes=lambda register: register(Gateway()))
BEHIND = {"X-Forwarded-For": f"{OTHER}, {CLIENT}", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "agents.example"}
RULE = {"name": "addresses", "per": "ip", "tiers": {"all": {"requests": 2, "window": "1m"}}}


@pytest.mark.parametrize("proxy", ["127.0.0.1", "127.0.0.2", ""])
async def test_routes_audit_limits_and_log_see_the_client(proxy: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"BYTEBREW_TRUSTED_PROXIES": proxy}
    is_trusted = proxy == "127.0.0.1"
    async with served_engine(SEE, settings=settings) as (_, client):
        who = CLIENT if is_trusted else "127.0.0.1"
        answer = await client.get("/api/v1/see", headers=BEHIND)
        origin = "https://agents.example" if is_trusted else str(client.base_url).rstrip("/")
        assert answer.json() == {"client": who, "origin": origin, "peer": "127.0.0.1"}
        assert ("strict-transport-security" in answer.headers) == is_trusted

        assert (await client.post("/api/v1/rate-limits", json=RULE, headers=BEHIND)).status_code == 201
        refused = await client.get("/api/v1/agents", headers={**BEHIND, "Authorization": "Bearer no"})
        assert refused.status_code == 401
        assert f"from {who}: 401" in caplog.text
        entries = (await client.get("/api/v1/audit")).json()["data"]
        assert [entry["details"]["client"] for entry in entries] == [who, who]

        statuses = []
        for n in range(3):
            headers = {**BEHIND, "X-Forwarded-For": f"203.0.113.{n}, {CLIENT}"}
            statuses.append((await client.get("/api/v1/sessions", headers=headers)).status_code)
        assert statuses == [200, 200, 429]
        other = await client.get("/api/v1/sessions", headers={"X-Forwarded-For": OTHER})
        assert other.status_code == (200 if is_trusted else 429)


async def test_a_page_of_the_engine_calls_through_a_proxy_that_changes_the_host() -> None:
    settings = {"BYTEBREW_TRUSTED_PROXIES": "127.0.0.1", "BYTEBREW_AUTH_MODE": "gateway"}
    async with served_engine(GATEWAY, settings=settings) as (_, client):
        del client.headers["authorization"]
        for origin, host, status in (
            ("https://agents.example", "agents.example", 200),
            ("https://evil.example", "agents.example", 403),
            ("https://agents.example", "", 403),
        ):
            headers = {"Origin": origin, "X-Forwarded-For": CLIENT} | ({"X-Forwarded-Host": host} if host else {})
            assert (await client.get("/api/v1/agents", headers=headers)).status_code == status
        spoofed = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport, base_url=client.base_url) as stranger:
            assert (await stranger.get("/api/v1/agents", headers=spoofed)).status_code == 403
