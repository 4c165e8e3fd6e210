"""HTTP tools over REST and in a chat: kept, changed, tried and called, with credentials that nobody is shown."""

from typing import Any

import httpx
import msgspec
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine
from tests.contract.test_tool import forecast
from tests.stored import everything
from tests.tables import check_refusal, token_with
from tests.upstream import refused, upstream

TOOLS = "/api/v1/tools"
STOCK: dict[str, Any] = {
    "name": "get_stock",
    "type": "http",
    "method": "GET",
    "url": "${ERP:-http://127.0.0.1:1}/stock/{{sku}}",
    "description": "Current stock of one item",
    "params": {"unit": "pcs"},
    "auth": {"type": "header", "name": "X-Key", "value": "s3cr3t-key"},
}


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post(TOOLS, json={**STOCK, **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


def in_the_file(engine: Engine, text: str) -> bool:
    return text.encode() in everything(engine.data_dir)


async def test_a_tool_is_created_shown_changed_and_deleted() -> None:
    async with served_engine() as (_, client):
        made = await create(client)
        assert {**STOCK, "auth": {"type": "header", "name": "X-Key"}}.items() <= made.items()
        assert (made["has_credential"], made["timeout"], made["confirmation_required"]) == (True, 30, False)
        assert (await client.get(TOOLS)).json() == [made]
        assert (await client.get(f"{TOOLS}/get_stock")).json() == made
        for method in ("PUT", "PATCH"):
            change = {"description": method, "confirmation_required": True}
            changed = (await client.request(method, f"{TOOLS}/get_stock", json=change)).json()
            assert changed == {**made, **change, "updated_at": changed["updated_at"]}
        assert (await client.delete(f"{TOOLS}/get_stock")).status_code == 204
        assert check_refusal(await client.get(f"{TOOLS}/get_stock"))["error"] == "not_found"
        assert (await client.get(TOOLS)).json() == []


async def test_the_list_dialect_is_stored_in_the_one_form() -> None:
    async with served_engine() as (_, client):
        made = await create(
            client,
            url="http://x.test",
            endpoint="POST https://shop.test/orders",
            method="POST",
            params=[{"name": "q", "type": "integer", "description": "what", "required": False}],
            auth={"type": "bearer", "token_env": "SHOP"},
        )
    assert (made["method"], made["url"], made["params"]) == ("POST", "https://shop.test/orders", {})
    assert made["parameters"] == {"q": {"type": "integer", "description": "what", "required": False}}
    assert (made["auth"], made["has_credential"]) == ({"type": "bearer", "token": "${SHOP}"}, True)


async def test_a_credential_is_sealed_kept_when_left_empty_and_never_shown() -> None:
    async with served_engine() as (engine, client), upstream(refused(200, {})) as double:
        await create(client, url=double.url, params={})
        same = {"auth": {"type": "header", "name": "X-Other", "value": ""}}
        assert (await client.put(f"{TOOLS}/get_stock", json=same)).json()["has_credential"]
        shown = (await client.get(f"{TOOLS}/get_stock")).text + (await client.get(TOOLS)).text
        assert "s3cr3t" not in shown
        assert in_the_file(engine, "get_stock")
        assert not in_the_file(engine, "s3cr3t")
        await client.post(f"{TOOLS}/get_stock/test")
        assert double.requests[-1].headers["x-other"] == "s3cr3t-key"
        other = {"auth": {"type": "bearer", "token": ""}}
        assert check_refusal(await client.put(f"{TOOLS}/get_stock", json=other))["details"][0]["path"] == "$.auth.token"
        assert not (await client.put(f"{TOOLS}/get_stock", json={"auth": None})).json()["has_credential"]
        await client.post(f"{TOOLS}/get_stock/test")
        assert "x-other" not in double.requests[-1].headers


MOVES = [
    *("http://b.test/{{sku}}", "https://a.test/{{sku}}", "http://a.test:81/{{sku}}", "http://a.test.b.test/{{sku}}"),
    *("${A}/{{sku}}", "http://a.test@b.test/", "http://${A}.a.test/{{sku}}", "http://a.test${A}/{{sku}}"),
]
"""Addresses at another scheme, host or port than http://a.test."""
STAYS = ["http://a.test", "http://a.test/other/{{sku}}?q=1", "http://a.test?${A}"]
KEPT: list[tuple[dict[str, Any], str]] = [
    ({}, "$.auth"),
    ({"auth": {"type": "header", "name": "X-Other"}}, "$.auth"),
    ({"auth": None, "params": {}}, "$.headers.X-Api-Key"),
    ({"auth": None, "headers": {}}, "$.params.access_token"),
]
"""Changes that leave a credential where it is, and the path of that."""
HELD: dict[str, Any] = {"headers": {"X-Api-Key": "${A}"}, "params": {"access_token": "${A}"}}
SENT: list[dict[str, Any]] = [
    {"auth": {"type": "header", "name": "X-Key", "value": "s3cr3t-key"}},
    {"auth": {"type": "bearer", "token": "${A}"}},
    {"auth": None},
]


@pytest.mark.parametrize(("change", "path"), KEPT)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_stored_credential_goes_to_no_other_address(method: str, change: dict[str, Any], path: str) -> None:
    async with served_engine() as (_, client):
        made = await create(client, url="http://a.test/{{sku}}", **HELD)
        for url in MOVES:
            for named in ({"url": url}, {"endpoint": f"GET {url}"}):
                refused = await client.request(method, f"{TOOLS}/get_stock", json={**change, **named})
                assert refused.status_code == 400
                assert path in [one["path"] for one in check_refusal(refused)["details"]], (url, refused.text)
        assert (await client.get(f"{TOOLS}/get_stock")).json() == made


@pytest.mark.parametrize("sent", SENT)
async def test_credentials_that_are_sent_again_go_to_another_address(sent: dict[str, Any]) -> None:
    async with served_engine() as (_, client):
        await create(client, url="http://a.test/{{sku}}", **HELD)
        answer = await client.put(f"{TOOLS}/get_stock", json={"url": "https://b.test/", **HELD, **sent})
        assert (answer.status_code, answer.json().get("url")) == (200, "https://b.test/"), answer.text


async def test_a_stored_credential_stays_where_the_address_does() -> None:
    async with served_engine() as (_, client):
        await create(client, url="http://a.test/{{sku}}", **HELD)
        for url in STAYS:
            answer = await client.put(f"{TOOLS}/get_stock", json={"url": url})
            assert (answer.status_code, answer.json().get("has_credential")) == (200, True), answer.text


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ("", 400),
        (", auth: {type: header, name: X-Key}", 400),
        (", auth: {type: header, name: X-Key, value: ''}", 400),
        (", auth: {type: header, name: X-Key, value: '${UNSET_KEY}'}", 400),
        (", auth: {type: header, name: X-Key, value: '${SOME_KEY}'}", 200),
        (", auth: {type: header, name: X-Key, value: other-key}", 200),
    ],
)
@pytest.mark.parametrize("mode", ["merge", "replace"])
async def test_an_import_takes_a_stored_credential_to_no_other_address(
    mode: str, auth: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "s0me")
    async with served_engine() as (_, client):
        await create(client, url="http://a.test/")
        for url, more, wanted in (("http://a.test/b", "", 200), ("http://b.test", auth, status)):
            raw = f"tools: {{get_stock: {{url: '{url}', description: moved{more}}}}}"
            answer = await client.post(f"/api/v1/config/import?mode={mode}", content=raw)
            assert answer.status_code == wanted, answer.text
        places = [one["path"] for one in answer.json().get("details", ())]
        assert places == ["$.tools.get_stock.auth"] * (status == 400)


@pytest.mark.parametrize(("mode", "stays"), [("merge", True), ("replace", False)])
async def test_an_import_takes_back_what_it_leaves_out_where_it_replaces(mode: str, stays: bool) -> None:
    more = {
        "confirmation_required": True,
        "allow_private": True,
        "timeout": 5,
        "headers": {"X-A": "1"},
        "method": "POST",
    }
    async with served_engine() as (_, client):
        await create(client, url="http://a.test", parameters={"n": {"type": "integer"}}, **more)
        for raw in ("url: http://a.test/b", "endpoint: POST http://a.test/b"):
            answer = await client.post(f"/api/v1/config/import?mode={mode}", content=f"tools: {{get_stock: {{{raw}}}}}")
            assert answer.status_code == 200, answer.text
        tool = (await client.get(f"{TOOLS}/get_stock")).json()
    assert tool["has_credential"]
    kept = [tool[name] == value for name, value in more.items()]
    assert (kept, bool(tool["parameters"])) == ([*([stays] * 4), True], stays)


@pytest.mark.parametrize(
    ("mode", "raw", "method"),
    [
        ("merge", "url: http://a.test", "POST"),
        ("replace", "url: http://a.test", "GET"),
        ("replace", "endpoint: http://a.test", "GET"),
        ("replace", "endpoint: PUT http://a.test", "PUT"),
        ("replace", "{endpoint: http://a.test, method: PATCH}", "PATCH"),
    ],
)
async def test_an_import_that_replaces_takes_the_method_back_too(mode: str, raw: str, method: str) -> None:
    async with served_engine() as (_, client):
        await create(client, url="http://a.test", method="POST")
        raw = raw if raw[0] == "{" else f"{{{raw}}}"
        answer = await client.post(f"/api/v1/config/import?mode={mode}", content=f"tools: {{get_stock: {raw}}}")
        assert answer.status_code == 200, answer.text
        assert (await client.get(f"{TOOLS}/get_stock")).json()["method"] == method


async def test_a_variable_is_stored_as_its_name_and_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served_engine() as (engine, client), upstream(refused(200, {})) as double:
        monkeypatch.setenv("ERP", double.url)
        monkeypatch.setenv("ERP_KEY", "env-s3cr3t")
        made = await create(client, auth={"type": "basic", "username": "me", "password": "${ERP_KEY}"})
        assert made["url"] == STOCK["url"]
        assert made["auth"] == {"type": "basic", "username": "me", "password": "${ERP_KEY}"}
        tried = (await client.post(f"{TOOLS}/get_stock/test", json={"arguments": {"sku": "a"}})).json()
        assert (tried["status"], tried["has_error"]) == (200, False)
        assert double.requests[0].path == "/stock/a?unit=pcs"
        assert not in_the_file(engine, "env-s3cr3t")


async def test_a_trial_tells_what_a_model_would_be_told() -> None:
    answers = refused(200, {"n": 7}), refused(404, {"why": "gone"})
    async with served_engine() as (_, client), upstream(*answers) as double:
        await create(client, url=f"{double.url}/{{{{sku}}}}", forward_headers=["X-Org-Id", "Authorization", "Cookie"])
        url, headers = f"{TOOLS}/get_stock/test", {"X-Org-Id": "acme", "Cookie": "c=1"}
        good = (await client.post(url, json={"arguments": {"sku": "a"}}, headers=headers)).json()
        assert (good["status"], good["output"], good["has_error"]) == (200, '{"n":7}', False)
        assert good["duration_ms"] >= 0
        assert double.requests[0].headers["x-org-id"] == "acme"
        assert not {"authorization", "cookie"} & double.requests[0].headers.keys()
        bad = (await client.post(url, json={"arguments": {"sku": "b"}})).json()
        assert (bad["status"], bad["output"], bad["has_error"]) == (404, 'HTTP 404: {"why":"gone"}', True)
        none = (await client.post(url)).json()
        assert (none["status"], none["output"], none["has_error"]) == (None, "The argument 'sku' is missing", True)
        assert check_refusal(await client.post(f"{TOOLS}/nothing/test"))["error"] == "not_found"


async def test_a_name_is_taken_once_and_not_from_a_plugin() -> None:
    def register_tools(register: Any) -> None:
        register(forecast)

    async with served_engine(plugin(register_tools=register_tools)) as (_, client):
        await create(client)
        for name in ("get_stock", "forecast", "read_result"):
            response = await client.post(TOOLS, json={**STOCK, "name": name})
            assert (response.status_code, check_refusal(response)["error"]) == (409, "conflict")
        for name in ("forecast", "read_result"):
            imported = await client.post(
                "/api/v1/config/import", content=f"tools: {{{name}: {{url: 'http://a.test'}}}}"
            )
            assert imported.json()["details"][0]["path"] == f"$.tools.{name}"


async def test_the_same_key_creates_a_tool_once() -> None:
    async with served_engine() as (_, client):
        first, again = [await client.post(TOOLS, json=STOCK, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "x" * 65, "../x"])
async def test_a_name_is_one_that_models_take(name: str, shared_client: httpx.AsyncClient) -> None:
    assert (
        check_refusal(await shared_client.post(TOOLS, json={**STOCK, "name": name}))["details"][0]["path"] == "$.name"
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"colour": "red"}, "$.colour"),
        ({"method": "BREW"}, "$.method"),
        ({"url": "ftp://x"}, "$.url"),
        ({"timeout": 0}, "$.timeout"),
        ({"type": "soap"}, "$.type"),
        ({"name": "other"}, "$.name"),
        ({"parameters": {"n": {"type": "float"}}}, "$.parameters[...].type"),
        ({"body": {"a": 1}}, "$.body"),
    ],
)
async def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(change: dict[str, Any], path: str) -> None:
    async with served_engine() as (_, client):
        made = await create(client)
        response = await client.put(f"{TOOLS}/get_stock", json=change)
        assert (response.status_code, check_refusal(response)["details"][0]["path"]) == (400, path)
        assert (await client.get(f"{TOOLS}/get_stock")).json() == made


async def test_a_tool_that_an_agent_names_stays() -> None:
    async with served_engine() as (_, client):
        await create(client)
        await client.post("/api/v1/agents", json={"name": "clerk", "tools": ["get_stock"]})
        body = check_refusal(await client.delete(f"{TOOLS}/get_stock"))
        assert (body["error"], body["details"]) == ("conflict", [{"path": "$.agents", "message": "clerk"}])
        await client.put("/api/v1/agents/clerk", json={"tools": []})
        assert (await client.delete(f"{TOOLS}/get_stock")).status_code == 204


async def test_tools_need_the_config_scope() -> None:
    async with served_engine() as (engine, client):
        await create(client)
        for scopes, status in ((("config",), 200), (("chat", "agents:write"), 403)):
            token = (await token_with(engine, *scopes)).token
            for path in (TOOLS, f"{TOOLS}/get_stock"):
                answer = await client.get(path, headers={"authorization": f"Bearer {token}"})
                assert answer.status_code == status


async def test_an_agent_calls_its_http_tool_in_a_chat() -> None:
    call = ToolCall("get_stock", {"sku": "A 1", "n": 2}, "call_1")
    provider = ScriptedProvider([call], [MessageDelta(content="Seven.")])
    async with served_engine(providing(provider)) as (engine, client), upstream(refused(200, {"n": 7})) as double:
        typed = {"n": {"type": "integer", "required": False}}
        await create(client, url=f"{double.url}/stock/{{{{sku}}}}", parameters=typed, forward_headers=["X-Org-Id"])
        await create(client, name="unnamed")
        await scripted_schema(engine, tools=("get_stock", "unknown"))
        client.headers["X-Org-Id"] = "acme"
        events = {event.event: msgspec.json.decode(event.data) for event in await chat(client, "test", "How many?")}
    assert [(spec.name, spec.description) for spec in provider.requests[0].tools if spec.name != "read_result"] == [
        ("get_stock", "Current stock of one item")
    ]
    assert events["tool_call"]["input"] == {"sku": "A 1", "n": 2}
    assert (events["tool_result"]["output"], events["tool_result"]["has_error"]) == ('{"n":7}', False)
    assert events["message"]["content"] == "Seven."
    (seen,) = double.requests
    assert (seen.path, seen.headers["x-key"]) == ("/stock/A%201?unit=pcs&n=2", "s3cr3t-key")
    assert seen.headers["x-org-id"] == "acme"


async def test_a_credential_sealed_with_another_key_fails_the_call_and_not_the_turn() -> None:
    provider = ScriptedProvider([ToolCall("get_stock", {"sku": "a"}, "call_1")], [MessageDelta(content="Sorry.")])
    async with served_engine(providing(provider)) as (engine, client):
        await create(client)
        await engine.db.write(lambda conn: conn.execute("update http_tools set sealed_credential = ?", (b"x" * 60,)))
        await scripted_schema(engine, tools=("get_stock",))
        events = {event.event: msgspec.json.decode(event.data) for event in await chat(client, "test", "How many?")}
    assert events["tool_result"]["has_error"]
    assert "sealed with another key" in events["tool_result"]["output"]
    assert events["message"]["content"] == "Sorry."
