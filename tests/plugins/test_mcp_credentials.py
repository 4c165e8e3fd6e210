"""Credentials of MCP servers go to the address that they are for and to nobody else, and are repeated by nobody."""

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bytebrew.testing import ADMIN
from tests.mcp_double import Web
from tests.plugins.test_mcp import PATH, stdio, world
from tests.plugins.test_mcp_faults import until
from tests.stored import everything
from tests.tables import check_refusal

KEY, LINE, VALUE = "key-hunter22", "line-hunter33", "env-hunter44"
STORED: dict[str, Any] = {
    "auth_type": "bearer",
    "auth_key": KEY,
    "headers": {"X-Key": f"Key {LINE}"},
    "env": {"TOKEN": VALUE},
}
SENT = {"auth_key": "new-key", "headers": {}, "env": {"TOKEN": "new"}}


def paths(answer: Any) -> set[str]:
    return {detail["path"] for detail in check_refusal(answer)["details"]}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_what_is_stored_for_one_origin_is_sent_to_no_other(method: str) -> None:
    async with Web() as web, Web() as other, world() as w:
        await w.add(url=web.url, **STORED)
        for url in (
            other.url,
            web.url.replace("http://", "https://"),
            web.url.replace("127.0.0.1", "localhost"),
            f"http://127.0.0.1:{web.port}.evil.test/mcp",
            "http://127.0.0.1/mcp",
        ):
            refused = await w.client.request(method, f"{PATH}/double", json={"url": url})
            assert refused.status_code == 400
            assert "$.url" in paths(refused) or paths(refused) == {"$.auth_key", "$.headers", "$.env"}
        for left_out in SENT:
            change = {"url": other.url, **SENT, "auth_key": "new-key"}
            change[left_out] = {"auth_key": "", "headers": {"X-Key": "***"}, "env": {"TOKEN": "***"}}[left_out]
            assert paths(await w.client.request(method, f"{PATH}/double", json=change)) == {f"$.{left_out}"}
        assert other.requests == []
        assert (await w.get())["url"] == web.url
        moved = await w.client.request(method, f"{PATH}/double", json={"url": other.url, **SENT})
        assert moved.json()["status"]["status"] == "connected"
        assert {headers["authorization"] for _, headers in other.requests} == {"Bearer new-key"}
        assert all("hunter" not in json.dumps(headers) for _, headers in other.requests)


async def test_what_is_stored_stays_where_the_origin_does() -> None:
    async with Web() as web, world() as w:
        await w.add(url=web.url, **STORED)
        web.requests.clear()
        moved = await w.client.patch(
            f"{PATH}/double",
            json={"url": f"HTTP://127.0.0.1:{web.port}/mcp?tenant=2".replace("HTTP", "http"), "auth_key": "***"},
        )
        assert moved.status_code == 200, moved.text
        assert {headers["authorization"] for _, headers in web.requests[-2:]} == {f"Bearer {KEY}"}


async def test_what_a_command_was_given_goes_to_no_url_and_a_new_command_keeps_it() -> None:
    async with Web() as web, world() as w:
        await w.add(how={}, env={"PLACE": "/srv/notes", "TOKEN": VALUE}, auth_key=KEY)
        change = {"type": "http", "url": web.url, "auth_type": "bearer", "auth_key_env": "TOKEN"}
        assert paths(await w.client.patch(f"{PATH}/double", json=change)) == {"$.auth_key", "$.env"}
        assert web.requests == []
        changed = await w.client.patch(f"{PATH}/double", json={"args": ["-B", *stdio()["args"]]})
        assert changed.json()["status"]["status"] == "connected"
        assert json.loads((await w.ask("env"))["output"])["PLACE"] == "/srv/notes"


async def test_a_configuration_file_moves_a_server_only_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_KEY", "new-key")
    async with Web() as web, Web() as other, world() as w:
        await w.add("web", url=web.url, auth_type="bearer", auth_key=KEY, headers={"X-Key": LINE})

        async def take_in(**server: Any) -> Any:
            body = {"mcp_servers": {"web": {"url": other.url, **server}}}
            return await w.client.post("/api/v1/config/import", json=body)

        for kept in (
            {},
            {"auth_key": "", "headers": {"X-Key": ""}},
            {"auth_key": "${NO_SUCH_VARIABLE}", "headers": {"X-Key": "${NO_SUCH_VARIABLE}"}},
        ):
            refused = await take_in(**kept)
            assert paths(refused) == {"$.mcp_servers.web.auth_key", "$.mcp_servers.web.headers"}, refused.text
        assert (other.requests, (await w.get("web"))["url"]) == ([], web.url)
        moved = await take_in(auth_key="${WEB_KEY}", headers={})
        assert moved.status_code == 200, moved.text
        await until(lambda: connected_to(w, "web"))
        assert {headers["authorization"] for _, headers in other.requests} == {"Bearer new-key"}
        again = {"mcp_servers": {"web": {"url": web.url, "auth_key": "${WEB_KEY}"}}}  # which the file may send anywhere
        assert (await w.client.post("/api/v1/config/import", json=again)).status_code == 200


async def connected_to(w: Any, name: str) -> bool:
    return bool((await w.get(name))["status"]["status"] == "connected")


@pytest.mark.parametrize("type", ["http", "sse"])
async def test_a_redirect_is_followed_by_no_credential(type: str) -> None:
    async with Web() as other, Web(redirects=other.url) as web, world() as w:
        await w.add(url=web.url, type=type, auth_type="bearer", auth_key=KEY)

        async def told() -> bool:
            return f"redirects to {other.url}" in (await w.get())["status"]["status_message"]

        await until(told)
        assert other.requests == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"url": "http://user:hunter22@a.test/mcp"}, "$.url"),
        ({"url": "http://a.test:port/mcp"}, "$.url"),
        ({"url": "http://a.test:99999/mcp"}, "$.url"),
        ({"url": "http://:80/mcp"}, "$.url"),
        ({"url": "http://a.test", "auth_type": "api_key", "auth_key": "k", "auth_header": "Host"}, "$.auth_header"),
        ({"url": "http://a.test", "forward_headers": ["Content-Encoding"]}, "$.forward_headers"),
        ({"url": "http://a.test", "auth_key": "schlüssel"}, "$.auth_key"),
        ({"url": "http://a.test", "auth_type": "bearer", "auth_key": "***"}, "$.auth_key"),
    ],
)
async def test_an_address_or_a_header_that_would_not_do_is_refused(body: dict[str, Any], path: str) -> None:
    async with world(servers=()) as w:
        answer = await w.client.post(PATH, json={"name": "double", **body})
        assert answer.status_code == 400, answer.text
        assert paths(answer) == {path}
        assert "hunter22" not in answer.text


async def test_a_variable_that_is_no_header_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_KEY", "hünter22\nX-Other: 1")
    async with Web() as web, world() as w:
        body = {"mcp_servers": {"double": {"url": web.url, "auth_type": "bearer", "auth_key": "${WEB_KEY}"}}}
        assert (await w.client.post("/api/v1/config/import", json=body)).status_code == 200

        async def told() -> bool:
            words = (await w.get())["status"]["status_message"]
            return bool(words == "is to be sent a header or key that is not plain text")

        await until(told)
        assert web.requests == []


async def test_a_strange_header_of_a_chat_costs_that_chat_its_call_and_no_other() -> None:
    async with Web() as web, world() as w:
        await w.add(url=web.url, forward_headers=["X-Org-Id"])
        before = (await w.get())["status"]
        w.client.headers.encoding = "latin-1"
        for _ in range(4):
            refused = await w.ask("echo", {"X-Org-Id": b"Zo\xeb"})
            words = "The header x-org-id of the request is not plain text; 'double' cannot be sent it"
            assert refused["output"] == words
        assert not (await w.ask("echo", {"X-Org-Id": "acme"}))["has_error"]
        assert (await w.get())["status"] == before


WAYS: dict[str, dict[str, Any]] = {
    "key": {"auth_type": "bearer", "auth_key": "hunter22-secret"},
    "header": {"headers": {"X-Key": "hunter22-secret"}},
    "variable as key": {"auth_type": "bearer", "auth_key_env": "ANY", "env": {"ANY": "hunter22-secret"}},
    "command": {"env": {"TOKEN": "hunter22-secret"}},
    "cookie": {"headers": {"X-Key": "sid=hunter22-secret; theme=dark"}},
    "in quotes": {"auth_type": "bearer", "auth_key": 'hunter22"secret'},
}


@pytest.mark.parametrize("way", WAYS)
async def test_no_word_of_a_server_repeats_what_it_was_given(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    how: dict[str, Any] = {"leaks": True, "more_tools": [{"name": "leak", "inputSchema": {}}]}
    async with (
        Web(**how) as web,
        Web(refuses=True) as rude,
        world(data=tmp_path, servers=("double", "rude"), turn_wait="0.3") as w,
    ):
        if way == "command":
            await w.add(how=how | {"stderr": "I was given hunter22-secret"}, **WAYS[way])
            await w.add("rude", how={"refuses": True}, **WAYS[way])
        else:
            await w.add(url=web.url, **WAYS[way])
            await w.add("rude", url=rude.url, **WAYS[way])

        async def told() -> bool:
            return "is no good" in (await w.get("rude"))["status"]["status_message"]

        await until(told)
        texts.append((await w.ask("leak"))["output"])
        texts.append((await w.ask("env" if way == "command" else "echo"))["output"])
        texts += [tool.description for tool in w.model.requests[0].tools]
        texts += [(await w.client.get(path)).text for path in (PATH, "/api/v1/audit?per_page=100", "/api/v1/tools")]
        assert texts[0] == "MCP server 'double' refuses the call: no right to " + (
            {"header": "***", "command": "***", "cookie": "sid=***; theme=dark"}.get(way, "Bearer ***")
        )
    said = "\n".join([*texts, caplog.text])
    assert "hunter22" not in said.replace(ADMIN, "")
    assert b"hunter22" not in everything(tmp_path)


async def test_half_a_secret_or_a_line_of_one_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pem = "first-line-hunter22\nsecond-line-hunter33"
    async with world() as w:
        await w.add(
            how={"more_tools": [{"name": "noise", "inputSchema": {}}]}, env={"PEM": pem, "TOKEN": "abcdefghijkl"}
        )
        await w.ask(
            "noise", parts=[pem, "\n", "x" * 600 + "abcd", "efghijkl", "y" * 9000, "abcd", "efghijkl\n"], pause=0.1
        )
    logged = "".join(record.getMessage() for record in caplog.records if record.name == "bytebrew_mcp.stdio")
    assert "MCP server double: ***" in logged
    assert "x" * 400 in logged
    assert not [part for part in ("line-hunter", "abcd", "ijkl") if part in logged]


async def test_a_variable_that_is_no_credential_is_told_as_it_is() -> None:
    async with world() as w:
        env = {"ROOT": "/srv/data/notes", "DATABASE_URL": "postgres://u:hunter22@db/x", "API_KEY": "hunter22-secret"}
        await w.add(env=env)
        told = json.loads((await w.ask("env"))["output"])
        assert {name: told[name] for name in env} == {"ROOT": env["ROOT"], "DATABASE_URL": "***", "API_KEY": "***"}


async def test_a_server_is_created_once_for_a_key_that_is_sent_twice() -> None:
    async with world(servers=()) as w:
        body = {"name": "double", "url": "http://127.0.0.1:9", "enabled": False, "auth_key": KEY}
        headers = {"Idempotency-Key": "one"}
        first, again = [await w.client.post(PATH, json=body, headers=headers) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201)
        assert msgspec.json.decode(first.content) == msgspec.json.decode(again.content)
