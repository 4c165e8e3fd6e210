"""MCP servers over REST: who may, what is refused, what is shown and what is not."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from bytebrew_mcp.catalog import Catalog
from bytebrew_mcp.header_params import encoded, marked, mirrored

from bytebrew.testing import served_engine
from tests.mcp_double import Web
from tests.plugins.test_mcp import PATH, stdio, world
from tests.stored import everything
from tests.tables import check_refusal, token_with

OFF: dict[str, Any] = {"enabled": False}


async def test_a_server_is_created_read_changed_and_deleted() -> None:
    async with world(servers=()) as w:
        made = await w.add(env={"PLACE": "hunter22"}, headers={"X-Key": "hunter33"}, auth_key="hunter44", **OFF)
        assert made["status"] == {
            "status": "disabled",
            "status_message": "",
            "tools_count": 0,
            "connected_at": None,
            "protocol_version": None,
            "tries": 0,
            "last_error": None,
            "last_error_at": None,
        }
        assert made["env"] == made["env_vars"] == {"MCP_DOUBLE": "***", "PLACE": "***"}
        assert (made["headers"], made["has_auth_key"], made["pin"], made["agents"]) == (
            {"X-Key": "***"},
            True,
            "block",
            [],
        )
        assert await w.get() == await w.get(made["id"]) == made
        assert (await w.client.get(PATH)).json() == [made]
        taken = await w.client.post(PATH, json={"name": "double", **stdio()})
        assert check_refusal(taken)["error"] == "conflict"
        on = (
            await w.client.put(f"{PATH}/double", json={"enabled": True, "env": {"PLACE": "***", "MCP_DOUBLE": "{}"}})
        ).json()
        assert (on["status"]["status"], on["args"], on["auth_type"]) == ("connected", made["args"], "none")
        await w.client.patch("/api/v1/agents/test", json={"mcp_servers": ["double"]})
        assert '"PLACE": "hunter22"' in (await w.ask("env"))["output"]
        refused = await w.client.delete(f"{PATH}/double")
        assert refused.status_code == 409
        assert refused.json()["details"] == [{"path": "$.agents", "message": "test"}]
        assert (await w.get())["agents"] == ["test"]
        await w.client.patch("/api/v1/agents/test", json={"mcp_servers": []})
        assert (await w.client.delete(f"{PATH}/double")).status_code == 204
        assert (await w.client.get(f"{PATH}/double")).status_code == 404


async def test_no_secret_is_in_an_answer_or_in_the_file(tmp_path: Path) -> None:
    async with world(servers=(), data=tmp_path) as w:
        await w.add(env={"TOKEN": "hunter22"}, headers={"X-Key": "hunter33"}, auth_key="hunter44", **OFF)
        texts = [(await w.client.get(path)).text for path in (PATH, f"{PATH}/double")]
        assert "hunter" not in "".join(texts)
    assert b"hunter" not in everything(tmp_path)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"type": "websocket", "url": "http://a.test"}, "$.type"),
        ({"type": "http", "url": "http://a.test", "auth_type": "kerberos"}, "$.auth_type"),
        ({"type": "http", "url": "http://a.test", "auth_type": "oauth2"}, "$.url"),
        ({"type": "http", "url": "http://a.test", "pin": "maybe"}, "$.pin"),
        ({"type": "http", "url": "ftp://a.test"}, "$.url"),
        ({"type": "http"}, "$.url"),
        ({"type": "stdio", "url": "http://a.test"}, "$.command"),
        ({"url": "http://a.test", "auth_type": "bearer"}, "$.auth_key"),
        ({"url": "http://a.test", "auth_type": "api_key", "auth_key_env": "KEY"}, "$.auth_key_env"),
        ({"url": "http://a.test", "forward_headers": ["Host"]}, "$.forward_headers"),
        ({"url": "http://a.test", "headers": {"Mcp-Session-Id": "x"}}, "$.headers"),
        ({"url": "http://a.test", "headers": {"X-Key": "a\r\nb"}}, "$.headers[...]"),
        ({"url": "http://a.test", "env": {"KEY": "***"}}, "$.env.KEY"),
        ({"url": "http://a.test", "colour": "red"}, "$.colour"),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_path(body: dict[str, Any], path: str) -> None:
    async with world(servers=()) as w:
        answer = await w.client.post(PATH, json={"name": "double", **body})
        assert answer.status_code == 400
        assert check_refusal(answer)["details"][0]["path"] == path
        assert (await w.client.get(PATH)).json() == []


async def test_a_variable_of_the_engine_is_not_sent_to_a_server_that_was_set_up_over_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VENDOR_KEY", "hunter22")
    wanted: dict[str, Any] = {
        "auth_key": "${VENDOR_KEY}",
        "headers": {"X-Key": "Bearer ${VENDOR_KEY}"},
        "env": {"KEY": "${VENDOR_KEY:-x}"},
    }
    async with Web() as web, world(servers=()) as w:
        body = {"name": "web", "url": web.url, "auth_type": "bearer", **wanted}
        refused = check_refusal(await w.client.post(PATH, json=body))
        paths = {detail["path"] for detail in refused["details"]}
        assert paths == {"$.auth_key", "$.headers.X-Key", "$.env.KEY"}
        await w.add(name="web", url=web.url)
        for field, value in wanted.items():
            for method in ("PUT", "PATCH"):
                answer = await w.client.request(method, f"{PATH}/web", json={field: value})
                assert check_refusal(answer)["error"] == "invalid_request"
        assert "hunter22" not in str(web.requests)


async def test_the_names_of_the_originals_clients_are_understood() -> None:
    async with Web() as web, world(servers=()) as w:
        old: dict[str, Any] = {
            "url": web.url,
            "type": "streamable-http",
            "auth_type": "bearer",
            "env_vars": {"KEY": "k-1"},
        }
        made = await w.add(**old, auth_token_env="KEY")
        assert made["status"]["status"] == "connected"
        assert {headers["authorization"] for _, headers in web.requests} == {"Bearer k-1"}
        changed = await w.client.patch(f"{PATH}/double", json={"auth_type": "api_key", "auth_header": "X-Secret"})
        assert changed.json()["status"]["status"] == "connected"
        assert web.requests[-1][1]["x-secret"] == "k-1"
        assert "authorization" not in web.requests[-1][1]


@pytest.mark.parametrize(
    ("policy", "scopes", "status"),
    [
        ("off", ("admin",), 403),
        ("admin", ("admin",), 201),
        ("admin", ("mcp:read", "mcp:write"), 403),
        ("on", ("mcp:read", "mcp:write"), 201),
        ("on", ("mcp:read",), 403),
    ],
)
async def test_a_command_is_set_up_by_those_who_may(policy: str, scopes: tuple[str, ...], status: int) -> None:
    async with world(servers=(), stdio=policy) as w:
        w.client.headers["Authorization"] = f"Bearer {(await token_with(w.engine, *scopes)).token}"
        answer = await w.client.post(PATH, json={"name": "io", **stdio(**OFF)})
        assert answer.status_code == status, answer.text
        web = await w.client.post(PATH, json={"name": "web", "url": "http://127.0.0.1:9", **OFF})
        assert web.status_code == (403 if scopes == ("mcp:read",) else 201)
        turned = await w.client.patch(f"{PATH}/web", json={"type": "stdio", "command": "true"})
        assert turned.status_code == (200 if status == 201 else 403)


async def test_commands_that_were_set_up_before_do_not_run_once_they_are_switched_off(tmp_path: Path) -> None:
    async with world(data=tmp_path) as w:
        await w.add()
    async with world(data=tmp_path, again=True, stdio="off") as w:
        assert (await w.get())["status"]["status"] == "disabled"
        assert await w.offered() == []


async def test_the_catalog_is_searched_and_has_no_key_in_a_url() -> None:
    async with world(servers=()) as w:

        async def names(**query: str) -> list[str]:
            answer = await w.client.get("/api/v1/mcp/catalog", params=query)
            assert msgspec.json.decode(answer.content, type=Catalog).version == "1.0"
            return [server["name"] for server in answer.json()["servers"]]

        assert len(await names()) == 12
        assert await names(category="search") == ["tavily-web-search", "brave-search", "exa-search"]
        assert await names(q="SPREAD") == ["google-sheets"]
        assert await names(category="data", q="slack") == []
        whole: httpx.Response = await w.client.get("/api/v1/mcp/catalog")
        packages = [package for server in whole.json()["servers"] for package in server["packages"]]
        assert not [one for one in packages if "KEY" in one.get("url_template", "")]


def test_arguments_become_headers_as_the_protocol_says() -> None:
    region = {"type": "string", "x-mcp-header": "Region"}
    deep = {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}
    paths = marked({"properties": {"region": region, "deep": deep, "x-mcp-header": {"type": "string"}}})
    assert paths == {"Region": ("region",), "N": ("deep", "n")}
    assert mirrored(paths, {"region": "us-west1", "deep": {"n": 42}}) == {
        "Mcp-Param-Region": "us-west1",
        "Mcp-Param-N": "42",
    }
    assert mirrored(paths, {"region": None, "deep": "no object"}) == {}
    assert mirrored({"Dry": ("dry",)}, {"dry": True}) == {"Mcp-Param-Dry": "true"}
    for value, header in {
        "us-west1": "us-west1",
        "Hello, 世界": "=?base64?SGVsbG8sIOS4lueVjA==?=",
        " padded ": "=?base64?IHBhZGRlZCA=?=",
        "line1\nline2": "=?base64?bGluZTEKbGluZTI=?=",
        "=?base64?literal?=": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
    }.items():
        assert encoded(value) == header


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "string", "x-mcp-header": ""}},
        {"a": {"type": "string", "x-mcp-header": "a b"}},
        {"a": {"type": "number", "x-mcp-header": "A"}},
        {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}},
        {"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}},
        {"a": {"anyOf": [{"type": "string", "x-mcp-header": "A"}]}},
    ],
)
def test_a_tool_that_breaks_the_rules_of_headers_is_found_out(properties: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="x-mcp-header"):
        marked({"type": "object", "properties": properties})


@pytest.mark.parametrize("query", ["", "?mode=replace"])
@pytest.mark.parametrize("more", [{}, {"type": None}], ids=["left_out", "null"])
async def test_in_a_file_a_server_without_a_type_is_of_the_one_that_it_looks_like(
    query: str, more: dict[str, Any]
) -> None:
    async def taken(client: httpx.AsyncClient, **server: Any) -> str:
        file = {"mcp_servers": {"s": {"enabled": False, **more, **server}}}
        answer = await client.post(f"/api/v1/config/import{query}", json=file)
        assert answer.status_code == 200, answer.text
        found: str = (await client.get("/api/v1/mcp-servers/s")).json()["type"]
        return found

    async with served_engine() as (_, client):
        assert await taken(client, url="http://127.0.0.1:1/") == "streamable-http"
        assert await taken(client, url="http://127.0.0.1:2/") == "streamable-http"
        if query:
            assert await taken(client, command="true") == "stdio"
