"""An HTTP tool goes where its operator sent it, and nowhere private that a value, a redirect or DNS would send it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from bytebrew_http_tools.definition import Auth, Definition
from bytebrew_http_tools.store import Stored
from bytebrew_http_tools.tool import DeclaredTool

from bytebrew import ToolError
from bytebrew.testing import served_engine
from tests.plugins.test_http_tools import CALL, declared, faults, text
from tests.tables import check_refusal
from tests.upstream import Step, client, head, refused, upstream

REAL = socket.getaddrinfo
ODD_FORMS = ["2130706433", "017700000001", "0x7f000001", "127.1", "0177.0.0.1", "0x7f.1", "127.0.0.1.", "LOCALHOST"]
"""Further spellings of 127.0.0.1 that inet_aton or a resolver takes."""
PRIVATE = [
    *("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", *ODD_FORMS),
    *("rebind.test", "rebind6.test", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "224.0.0.1"),
    *(
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ),
]
REFUSED = "no public address|cannot be made|redirects to what is no URL"


class Listening(NamedTuple):
    """A socket on every address of this machine, IPv4 and IPv6, and whoever connected to it."""

    port: int
    met: list[Any]


@asynccontextmanager
async def listening() -> AsyncIterator[Listening]:
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    met: list[Any] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer.get_extra_info("peername")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join(step for step in text("inside") if isinstance(step, bytes)))
        writer.close()

    server = await asyncio.start_server(answer, sock=sock)
    async with server:
        yield Listening(sock.getsockname()[1], met)


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names ending in .test mean this machine, as an attacker's DNS would have it; the rest is looked up for real."""
    asked: list[str] = []

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        known = {"rebind.test": "127.0.0.1", "rebind6.test": "::1"}
        return REAL(known.get(host, host), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def elsewhere(location: str, status: int = 302) -> list[Step]:
    return [head(status, location=location, content_length=0)]


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_host_from_a_parameter_is_not_private(host: str) -> None:
    async with listening() as inside, client() as http:
        tool = declared(http, url=f"http://{{{{host}}}}:{inside.port}/latest/meta-data")
        with pytest.raises(ToolError, match=REFUSED):
            await tool.run(CALL, {"host": host})
        assert inside.met == []


@pytest.mark.parametrize("template", ["http://127.0.0.{{x}}:%d/", "http://127.0.0.1:{{x}}/", "http://{{x}}"])
async def test_a_part_of_the_host_from_a_parameter_is_a_host_from_a_parameter(template: str) -> None:
    async with listening() as inside, client() as http:
        url = template % inside.port if "%d" in template else template
        value = "1" if "%d" in template else str(inside.port) if "127" in template else f"127.0.0.1:{inside.port}"
        with pytest.raises(ToolError, match="that is no public address"):
            await declared(http, url=url).run(CALL, {"x": value})
        assert inside.met == []


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_redirect_does_not_lead_to_a_private_address(host: str) -> None:
    async with listening() as inside, client() as http:
        async with upstream(elsewhere(f"http://{host}:{inside.port}/")) as double:
            with pytest.raises(ToolError, match=REFUSED):
                await declared(http, url=double.url).run(CALL, {})
        assert inside.met == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001", "localhost", "rebind.test"])
async def test_the_same_address_written_out_by_the_operator_works(host: str) -> None:
    async with listening() as inside, client() as http:
        assert await declared(http, url=f"http://{host}:{inside.port}/{{{{x}}}}").run(CALL, {"x": "a"}) == "inside"
        assert await declared(http, {"ERP": f"http://{host}:{inside.port}"}, url="${ERP}/x").run(CALL, {}) == "inside"
        assert len(inside.met) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "rebind.test"])
async def test_a_tool_that_may_goes_to_private_addresses(host: str) -> None:
    async with listening() as inside, client() as http:
        tool = declared(http, url=f"http://{{{{host}}}}:{inside.port}/", allow_private=True)
        assert await tool.run(CALL, {"host": host}) == "inside"
        async with upstream(elsewhere(f"http://{host}:{inside.port}/")) as double:
            assert await declared(http, url=double.url, allow_private=True).run(CALL, {}) == "inside"


async def test_the_address_that_was_looked_up_is_the_one_that_is_judged(lookups: list[str]) -> None:
    async with listening() as inside, client() as http:
        with pytest.raises(ToolError, match="that is no public address"):
            await declared(http, url="http://{{host}}/").run(CALL, {"host": f"rebind.test:{inside.port}"})
    assert lookups.count("rebind.test") == 1


async def test_a_name_keeps_its_host_header() -> None:
    async with upstream(text("ok")) as double, client() as http:
        port = double.url.rpartition(":")[2]
        await declared(http, url=f"http://rebind.test:{port}/").run(CALL, {})
    assert double.requests[0].headers["host"] == f"rebind.test:{port}"


async def test_a_connection_that_the_operator_made_serves_no_other_tool() -> None:
    async with upstream(text("ok")) as double, client() as http:
        port = double.url.rpartition(":")[2]
        await declared(http, url=double.url).run(CALL, {})
        with pytest.raises(ToolError, match="no public address"):
            await declared(http, url="http://{{host}}/").run(CALL, {"host": f"127.0.0.1:{port}"})
    assert len(double.requests) == 1


# Credentials and the host that a model chooses.

OPEN = [
    *(
        "http://{{host}}/x",
        "http://api.{{host}}",
        "http://h.test:{{port}}/",
        "${BASE}{{host}}/x",
        "${SCHEME}://{{host}}",
    ),
    "${BASE:-http://a.test/}.{{host}}?q=1",
]
"""URLs whose host an argument has a part in."""
TELLING: list[tuple[dict[str, Any], str]] = [
    ({"auth": {"type": "bearer", "token": "s3cr3t"}}, "$.auth"),
    ({"auth": {"type": "basic", "username": "u", "password": "${PASSWORD}"}}, "$.auth"),
    ({"forward_headers": ["X-Org-Id"]}, "$.forward_headers"),
    ({"headers": {"Authorization": "Bearer ${TOKEN}"}}, "$.headers.Authorization"),
    ({"params": {"api_key": "${KEY}"}}, "$.params.api_key"),
]


@pytest.mark.parametrize("url", OPEN)
@pytest.mark.parametrize(("fields", "path"), TELLING)
def test_a_credential_cannot_go_to_a_host_that_an_argument_names(url: str, fields: dict[str, Any], path: str) -> None:
    assert faults(url=url, **fields) == [path]


def test_a_credential_in_the_query_cannot_go_to_a_host_that_an_argument_names() -> None:
    assert faults(url="http://{{host}}/x?api_key=${KEY}") == ["$.url.api_key"]


async def test_hosts_that_the_operator_has_listed_are_told_the_credential_and_no_other_is() -> None:
    async with upstream(text("ok")) as double, client() as http:
        host = double.url.removeprefix("http://")
        tool = declared(
            http, url="http://{{host}}/x", parameters={"host": {"enum": [host]}}, allow_private=True, **SECRETS
        )
        assert await tool.run(CALL, {"host": host}) == "ok"
        assert double.requests[0].headers.keys() >= TOLD
        with pytest.raises(ToolError, match="'host' is none of"):
            await tool.run(CALL, {"host": f"{host}."})


async def test_what_an_argument_says_itself_goes_to_the_host_that_it_names() -> None:
    async with upstream(text("ok")) as double, client() as http:
        tool = declared(http, url="http://{{host}}", headers={"X-Api-Key": "{{key}}"}, allow_private=True)
        assert await tool.run(CALL, {"host": double.url.removeprefix("http://"), "key": "k"}) == "ok"
    assert double.requests[0].headers["x-api-key"] == "k"


async def test_a_tool_that_was_stored_with_a_credential_and_an_open_host_does_not_run() -> None:
    async with upstream(text("ok")) as double, client() as http:
        old = Definition(name="it", url="http://{{host}}", auth=Auth(type="bearer"), allow_private=True)
        tool = DeclaredTool(Stored(old, b"s3cr3t", "", ""), http, bytes.decode, {})
        with pytest.raises(ToolError, match="its auth would go to a host that the argument 'host' names"):
            await tool.run(CALL, {"host": double.url.removeprefix("http://")})
    assert double.connections == 0


# Names.


@pytest.mark.parametrize("name", ["knowledge_search", "show_structured_output", "manage_tasks", "memory_store"])
async def test_no_http_tool_takes_the_name_of_a_tool_that_only_some_agents_have(name: str) -> None:
    async with served_engine() as (_, http):
        answer = await http.post("/api/v1/tools", json={"name": name, "url": "http://a.test"})
        assert check_refusal(answer)["details"] == [{"path": "$.name", "message": "is taken"}]
        assert answer.status_code == 409


# Redirects.

SECRETS: dict[str, Any] = {
    "auth": {"type": "header", "name": "X-Key", "value": "s3cr3t"},
    "headers": {"X-Own": "own"},
    "forward_headers": ["X-Org-Id", "Cookie"],
}
TOLD = {"x-key", "x-own", "x-org-id", "cookie"}


async def test_a_redirect_on_the_same_host_keeps_what_is_sent() -> None:
    async with upstream(elsewhere("/there?x=1", 307), text("ok")) as double, client() as http:
        tool = declared(http, method="POST", url=f"{double.url}/here", body={"a": 1}, **SECRETS)
        assert await tool.run(CALL, {}) == "ok"
    first, second = double.requests
    assert (second.method, second.path, second.json) == ("POST", "/there?x=1", {"a": 1})
    assert first.headers.keys() >= TOLD
    assert second.headers.keys() >= TOLD


@pytest.mark.parametrize(
    ("url", "location", "same"),
    [
        ("http://h.test/a", "http://H.test:80/b", True),
        ("https://h.test:443/a", "https://h.test/b", True),
        ("http://h.test/a", "https://h.test/b", False),
        ("http://h.test/a", "http://h.test:443/b", False),
        ("https://h.test/a", "https://h.test:80/b", False),
    ],
)
async def test_a_host_is_the_same_on_the_port_of_its_scheme(url: str, location: str, same: bool) -> None:
    seen: list[httpx.Request] = []

    async def words() -> AsyncIterator[bytes]:
        yield b"ok"

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        headers = {"location": location} if len(seen) == 1 else {}
        return httpx.Response(302 if headers else 200, headers=headers, content=words())

    async with client(transport=httpx.MockTransport(answer)) as http:
        assert await declared(http, url=url, **SECRETS).run(CALL, {}) == "ok"
    assert ("x-key" in seen[1].headers) == same


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_takes_no_credentials_and_no_headers_along(status: int) -> None:
    async with upstream(text("ok")) as other, upstream(elsewhere(other.url, status)) as double, client() as http:
        tool = declared(http, url=double.url, allow_private=True, **SECRETS)
        assert await tool.run(CALL, {}) == "ok"
    assert double.requests[0].headers.keys() >= TOLD
    assert not TOLD & other.requests[0].headers.keys()


async def test_what_stands_before_a_backslash_is_not_the_host_of_a_redirect() -> None:
    """Clients take `http://a\\@b/` for a user at b (RFC 3986), and browsers for the path /@b of a (WHATWG URL)."""
    async with listening() as inside, upstream([]) as double, client() as http:
        for mark in ("\\@", "\\..@", "/\\@"):
            location = f"{double.url}{mark}127.0.0.1:{inside.port}/latest/meta-data"
            double._answers[:] = [elsewhere(location), text("ok")]
            double.requests.clear()
            try:
                assert await declared(http, url=double.url, **SECRETS).run(CALL, {}) == "ok"
            except ToolError as error:
                assert "redirects to what is no http or https URL" in str(error)
    assert inside.met == []


async def test_nothing_comes_back_after_a_visit_elsewhere() -> None:
    async with upstream([]) as other, upstream(elsewhere(other.url), text("ok")) as double, client() as http:
        other._answers[0] = elsewhere(double.url)
        assert await declared(http, url=double.url, allow_private=True, **SECRETS).run(CALL, {}) == "ok"
    assert double.requests[0].headers.keys() >= TOLD
    assert not TOLD & double.requests[1].headers.keys()


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
async def test_a_redirected_post_stays_one_where_the_status_says_so(status: int, method: str) -> None:
    async with upstream(elsewhere("/there", status), text("ok")) as double, client() as http:
        assert await declared(http, method="POST", url=double.url, body={"a": 1}).run(CALL, {}) == "ok"
    assert (double.requests[1].method, bool(double.requests[1].body)) == (method, method == "POST")


async def test_a_body_does_not_go_to_another_host() -> None:
    async with upstream(text("ok")) as other, upstream(elsewhere(other.url, 307)) as double, client() as http:
        with pytest.raises(ToolError, match="a body is sent to the host of its url only"):
            await declared(http, method="POST", url=double.url, body={"a": 1}, allow_private=True).run(CALL, {})
    assert other.connections == 0


async def test_five_redirects_are_followed_and_no_more() -> None:
    async with upstream(*[elsewhere("/")] * 5, text("ok")) as double, client() as http:
        assert await declared(http, url=double.url).run(CALL, {}) == "ok"
    async with upstream(elsewhere("/")) as double, client() as http:
        with pytest.raises(ToolError, match="more than 5 times"):
            await declared(http, url=double.url).run(CALL, {})
    assert len(double.requests) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/x", "http://u:p@h/", "http://[::1"])
async def test_a_redirect_leads_to_http_only(location: str) -> None:
    async with upstream(elsewhere(location)) as double, client() as http:
        with pytest.raises(ToolError, match=r"no http or https URL|redirects to what is no URL"):
            await declared(http, url=double.url).run(CALL, {})


async def test_a_redirect_without_a_target_is_an_answer() -> None:
    async with upstream(refused(302, {"see": "there"})) as double, client() as http:
        assert await declared(http, url=double.url).run(CALL, {}) == '{"see":"there"}'


async def test_a_cookie_of_one_call_is_not_sent_with_the_next() -> None:
    async with upstream(text("ok", set_cookie="session=ada; Path=/")) as double, client() as http:
        for _ in range(2):
            await declared(http, url=double.url).run(CALL, {})
    assert "cookie" not in double.requests[1].headers
