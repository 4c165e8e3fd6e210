"""Bring your own key: who may, what it reaches, and that it stays nowhere."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.base.formats import new_uuid
from bytebrew.base.http_client.client import Http
from bytebrew.base.settings import Core
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ToolCall, Usage
from bytebrew.testing import ADMIN, ScriptedProvider, events_of, providing, scripted_schema, served_engine
from tests.processes import plugins_folder, serving
from tests.tables import check_refusal, token_with
from tests.upstream import data, refused, streamed, upstream

CHAT = "/api/v1/schemas/test/chat"
KEY = "tenant-key-0123456789abcdef"
OWN = {"X-Model-Provider": "scripted", "X-Model-API-Key": KEY, "X-Model-Name": "theirs"}
WIRE = {**OWN, "X-Model-Provider": "openai_compatible"}
HELLO = [{"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}, "[DONE]"]


async def allow(client: httpx.AsyncClient, *providers: str) -> None:
    for provider in providers:
        answer = await client.put(f"/api/v1/settings/byok.{provider}", json={"value": True})
        assert answer.status_code == 200, answer.text


async def list_origins(client: httpx.AsyncClient, *origins: str) -> None:
    answer = await client.put("/api/v1/settings/byok.origins", json={"value": origins})
    assert answer.status_code == 200, answer.text


async def ask(
    client: httpx.AsyncClient, headers: Mapping[str, str], message: str = "hi", **body: Any
) -> httpx.Response:
    return await client.post(CHAT, json={"message": message, **body}, headers=headers)


# Who may


async def test_own_keys_are_off_until_an_admin_turns_them_on_and_again_afterwards() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        for _ in range(2):
            said = check_refusal(await ask(client, OWN))
            assert said["error"] == "byok_disabled"
            assert said["message"].startswith("Own keys are off for provider 'scripted'")
            assert provider.requests == []
            await allow(client, "demo")
        await allow(client, "scripted")
        assert "event: done" in (await ask(client, OWN)).text
        await client.delete("/api/v1/settings/byok.scripted")
        assert (await ask(client, OWN)).status_code == 403


async def test_the_callers_model_answers_with_the_callers_key_and_only_that_turn() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        await allow(client, "scripted")
        session_id = (await ask(client, OWN, stream=False)).json()["session_id"]
        await ask(client, {}, session_id=session_id)
    assert [(request.model_name, request.api_key) for request in provider.requests] == [
        ("theirs", KEY),
        ("script", ""),
    ]


async def test_the_agents_that_a_turn_spawns_are_answered_by_the_callers_model_too() -> None:
    said = [MessageDelta(content="hello")]
    provider = ScriptedProvider([ToolCall("spawn_helper", {"message": "go"})], said, said)
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running, can_spawn=("helper",))
        await client.post("/api/v1/agents", json={"name": "helper", "model": "test"})
        await allow(client, "scripted")
        assert "event: done" in (await ask(client, OWN)).text
    assert [(one.model_name, one.api_key) for one in provider.requests] == [("theirs", KEY)] * 3
    assert provider.requests[1].messages[-1].content == "go"


async def test_a_token_that_may_chat_may_bring_a_key() -> None:
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="hello")]))) as (running, client):
        await scripted_schema(running)
        await allow(client, "scripted")
        token = (await token_with(running, "chat")).token
        assert (await ask(client, {**OWN, "authorization": f"Bearer {token}"})).status_code == 200


async def test_a_schema_whose_model_is_missing_answers_with_an_own_key() -> None:
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="hello")]))) as (_, client):
        await client.post("/api/v1/agents", json={"name": "a", "model": "later"})
        await client.post("/api/v1/schemas", json={"name": "test", "entry_agent": "a", "chat_enabled": True})
        await allow(client, "scripted")
        assert "event: done" in (await ask(client, OWN)).text


# What the headers say


@pytest.mark.parametrize("missing", list(OWN))
@pytest.mark.parametrize("how", ["left out", "empty"])
async def test_a_header_that_is_missing_is_told_and_nothing_is_asked(missing: str, how: str) -> None:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    headers = {**OWN, missing: ""} if how == "empty" else {name: OWN[name] for name in OWN if name != missing}
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        await allow(client, "scripted")
        response = await ask(client, headers)
    assert response.status_code == 400
    said = check_refusal(response)
    assert said["details"][0]["path"] == f"$.headers.{missing}"
    assert said["message"].startswith(missing)
    assert KEY not in response.text
    assert provider.requests == []


async def test_a_base_url_alone_means_an_own_model_too() -> None:
    async with served_engine() as (_, client):
        response = await client.post(
            "/api/v1/schemas/demo/chat", json={"message": "hi"}, headers={"X-Model-Base-URL": "http://a.test"}
        )
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("disabled", ["", "own_key"])
async def test_a_preflight_names_its_headers(disabled: str) -> None:
    page = "https://app.example"
    settings = {"BYTEBREW_CORS_ORIGINS": page, "BYTEBREW_DISABLED_PLUGINS": disabled}
    async with served_engine(settings=settings) as (_, client):
        asked = {"Origin": page, "Access-Control-Request-Method": "POST"}
        answer = await client.options("/api/v1/schemas/demo/chat", headers=asked)
    assert answer.headers["access-control-allow-headers"] == ", ".join(
        ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID"]
        + ([] if disabled else ["X-Model-Provider", "X-Model-API-Key", "X-Model-Name", "X-Model-Base-URL"])
    )


async def test_a_provider_goes_by_its_aliases_and_an_unknown_one_is_told_the_known() -> None:
    async with served_engine() as (_, client):
        client.headers.update(WIRE)
        for alias in ("openai", "openai-compatible"):
            answer = await client.post(
                "/api/v1/schemas/demo/chat", json={"message": "hi"}, headers={"X-Model-Provider": alias}
            )
            assert "provider 'openai_compatible'" in check_refusal(answer)["message"]
        answer = await client.post(
            "/api/v1/schemas/demo/chat", json={"message": "hi"}, headers={"X-Model-Provider": "oracle"}
        )
        assert answer.status_code == 400
        assert "known are anthropic, azure_openai, " in check_refusal(answer)["message"]


async def test_a_base_url_is_taken_only_where_the_settings_allow_it() -> None:
    async with upstream(streamed(data(*HELLO))) as vendor, served_engine() as (_, client):
        url = "/api/v1/schemas/demo/chat"
        headers = {**WIRE, "X-Model-Base-URL": vendor.url}
        await allow(client, "openai_compatible")
        off = await client.post(url, json={"message": "hi"}, headers=headers)
        assert (off.status_code, check_refusal(off)["error"]) == (403, "byok_disabled")
        assert vendor.requests == []
        await list_origins(client, vendor.url)
        assert "event: done" in (await client.post(url, json={"message": "hi"}, headers=headers)).text
    [request] = vendor.requests
    assert (request.headers["authorization"], request.json["model"]) == (f"Bearer {KEY}", "theirs")


async def test_a_provider_without_an_address_of_its_own_needs_one() -> None:
    async with served_engine() as (_, client):
        await allow(client, "azure_openai", "base_url")
        headers = {**WIRE, "X-Model-Provider": "azure_openai"}
        answer = await client.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=headers)
    assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.headers.X-Model-Base-URL")


# Where a caller may send the engine


BAD_URLS = (
    *("file:///etc/passwd", "http://", "vendor.test", "http://vendor.test/internal#", "http://vendor.test/x?y="),
    *("http://user@vendor.test/", "http://vendor.test/a/../admin", "http://vendor.test/%2e%2e/admin", "http://a\\b"),
    *("http://vendor.test/..", "http://vendor.test/" + 2000 * "a"),
    *("http://[::1]8080", "http://[::1]8080/v1", "http://[::1", "http://a]b[vendor.test", "http://::1", "http://a:b"),
)


@pytest.mark.parametrize("bad", BAD_URLS)
async def test_a_base_url_with_more_than_a_host_and_a_path_is_refused(
    bad: str, shared_client: httpx.AsyncClient
) -> None:
    await allow(shared_client, "openai_compatible", "base_url")
    headers = {**WIRE, "X-Model-Base-URL": bad}
    answer = await shared_client.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=headers)
    assert answer.status_code == 400
    assert check_refusal(answer)["details"][0]["path"] == "$.headers.X-Model-Base-URL"


@pytest.mark.parametrize("bad", ["../../v1/files", "a/../b", "models/x?key=1", "m#", "..", "m%2e", "m\\n"])
async def test_the_name_of_a_model_is_no_way_to_another_path(bad: str, shared_client: httpx.AsyncClient) -> None:
    await allow(shared_client, "google")
    headers = {**WIRE, "X-Model-Provider": "google", "X-Model-Name": bad}
    answer = await shared_client.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=headers)
    assert answer.status_code == 400
    assert check_refusal(answer)["details"][0]["path"] == "$.headers.X-Model-Name"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_no_private_address_is_called_for_a_caller_though_base_urls_are_on(host: str) -> None:
    async with upstream(streamed(data(*HELLO))) as vendor, served_engine() as (_, client):
        await allow(client, "openai_compatible", "base_url")
        headers = {**WIRE, "X-Model-Base-URL": vendor.url.replace("127.0.0.1", host)}
        answer = await client.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=headers)
    assert "is no public address" in answer.text
    assert host == "127.0.0.1" or "127.0.0.1" not in answer.text.replace(host, "")  # nobody looks up our names with it
    assert "event: error" in answer.text
    assert vendor.connections == 0


async def test_a_private_address_is_called_for_the_operator_while_it_is_refused_to_callers() -> None:
    async with upstream(streamed(data(*HELLO))) as vendor, served_engine() as (running, client):
        await scripted_schema(running)
        model = {"name": "mine", "type": "openai_compatible", "model_name": "gpt", "base_url": vendor.url}
        await client.post("/api/v1/models", json=model)
        await client.post("/api/v1/agents", json={"name": "a", "model": "mine"})
        await client.post("/api/v1/schemas", json={"name": "own", "entry_agent": "a", "chat_enabled": True})
        await allow(client, "openai_compatible", "base_url")
        headers = {**WIRE, "X-Model-Base-URL": vendor.url}
        for _ in range(2):
            url, body = "/api/v1/schemas/own/chat", {"message": "hi"}
            assert "event: done" in (await client.post(url, json=body)).text
            assert "is no public address" in (await client.post(url, json=body, headers=headers)).text


@pytest.mark.parametrize("other", ["http://127.0.0.1:1", "https://127.0.0.1", "http://localhost"])
async def test_only_the_very_origin_on_the_list_is_called(other: str) -> None:
    async with upstream(streamed(data(*HELLO))) as vendor, served_engine() as (_, client):
        await allow(client, "openai_compatible")
        await list_origins(client, vendor.url)
        headers = {**WIRE, "X-Model-Base-URL": other}
        answer = await client.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=headers)
    assert (answer.status_code, check_refusal(answer)["error"]) == (403, "byok_disabled")
    assert "byok.origins" in answer.text


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
async def test_nothing_of_what_a_listed_address_answers_is_read_back_to_the_caller(status: int) -> None:
    secret = {"error": {"message": "internal-secret"}, "token": "internal-secret"}
    async with (
        upstream(refused(status, secret, location="http://internal-secret/")) as inside,
        served_engine(settings={"BYTEBREW_PROVIDER_RETRIES": "0"}) as (_, client),
    ):
        await allow(client, "openai_compatible")
        await list_origins(client, inside.url)
        for stream in (True, False):
            body = {"message": "hi", "stream": stream}
            headers = {**WIRE, "X-Model-Base-URL": f"{inside.url}/admin"}
            answer = await client.post("/api/v1/schemas/demo/chat", json=body, headers=headers)
            assert "error" in answer.text
            assert "internal-secret" not in answer.text
    assert len(inside.requests) == 2


async def test_a_public_vendors_words_do_reach_the_caller() -> None:
    vendor = httpx.MockTransport(lambda _: httpx.Response(404, json={"error": {"message": f"No model, {KEY}"}}))
    async with served_engine(http=Http(Core(), vendor)) as (_, client):
        await allow(client, "openai_compatible", "base_url")
        headers = {**WIRE, "X-Model-Base-URL": "https://vendor.test/v1"}
        answer = await client.post("/api/v1/schemas/demo/chat", json={"message": "hi"}, headers=headers)
    assert "HTTP 404: No model, ***" in answer.text


# Never the operator's model


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_what_a_vendor_refuses_is_an_error_and_never_falls_back_on_the_operators_model(status: int) -> None:
    words = {"error": {"message": f"No: {KEY}"}}
    retries = {"BYTEBREW_PROVIDER_RETRIES": "0"}
    async with (
        upstream(refused(status, words)) as theirs,
        upstream(streamed(data(*HELLO))) as operators,
        served_engine(settings=retries) as (_, client),
    ):
        for name in ("main", "spare"):
            model = {"name": name, "type": "openai_compatible", "model_name": "gpt", "base_url": operators.url}
            await client.post("/api/v1/models", json=model)
        await client.patch("/api/v1/models/main", json={"fallback": ["spare"]})
        await client.post("/api/v1/agents", json={"name": "a", "model": "main"})
        await client.post("/api/v1/schemas", json={"name": "test", "entry_agent": "a", "chat_enabled": True})
        await allow(client, "openai_compatible")
        await list_origins(client, theirs.url)
        headers = {**WIRE, "X-Model-Base-URL": theirs.url}
        stream = await ask(client, headers)
        whole = await ask(client, headers, stream=False)
        assert stream.text.count("event: ") == 1
        assert "event: error" in stream.text
        assert whole.status_code == 502
        for answer in (stream, whole):
            assert f"HTTP {status}" in answer.text or "what the address answered is not shown" in answer.text
            assert "No: " not in answer.text
            assert KEY not in answer.text
        assert operators.requests == []
        assert "event: done" in (await ask(client, {})).text
    assert len(theirs.requests) == 2
    assert len(operators.requests) == 1


async def test_one_tenants_failures_do_not_stop_another() -> None:
    down = refused(500, {"error": {"message": "down"}})
    retries = {"BYTEBREW_PROVIDER_RETRIES": "0"}
    async with (
        upstream(down) as broken,
        upstream(streamed(data(*HELLO))) as well,
        served_engine(settings=retries) as (running, client),
    ):
        await scripted_schema(running)
        await allow(client, "openai_compatible")
        await list_origins(client, broken.url, well.url)
        for _ in range(7):
            assert "event: error" in (await ask(client, {**WIRE, "X-Model-Base-URL": broken.url})).text
        assert "event: done" in (await ask(client, {**WIRE, "X-Model-Base-URL": well.url})).text
    assert len(broken.requests) == 7


# It stays nowhere


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def test_two_tenants_at_once_reach_their_own_vendor_account_and_leave_no_key_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    both = asyncio.Event()
    keys = {name: f"key-of-{name}-0123456789abcdef" for name in ("ada", "ben")}
    answers: list[str] = []
    async with (
        upstream([both, *streamed(data(*HELLO))]) as vendor,
        served_engine(providing(ScriptedProvider([])), data=tmp_path) as (running, client),
    ):
        await scripted_schema(running)
        await allow(client, "openai_compatible")
        await list_origins(client, vendor.url)

        async def tenant(name: str) -> None:
            headers = {**WIRE, "X-Model-API-Key": keys[name], "X-Model-Base-URL": vendor.url}
            answer = await ask(client, headers, f"I am {name}")
            answers.append(f"{answer.headers} {answer.text}")

        tenants = [asyncio.create_task(tenant(name)) for name in keys]
        while len(vendor.requests) < 2:
            await asyncio.sleep(0.005)
        both.set()
        await asyncio.gather(*tenants)
        for request in vendor.requests:
            name = request.json["messages"][-1]["content"].removeprefix("I am ")
            others = [key for other, key in keys.items() if other != name]
            assert request.headers["authorization"] == f"Bearer {keys[name]}"
            assert not any(key in f"{request.headers} {request.body!r}" for key in others)
        page = (await client.get("/api/v1/sessions")).json()
        paths = ("sessions", "settings", "models", "usage", "agents", "auth/tokens", "schemas", "audit", "approvals")
        for path in ("/metrics", *(f"/api/v1/{path}" for path in (*paths, "audit/tool-calls"))):
            read = await client.get(path)
            assert read.status_code == 200, path
            answers.append(read.text)
        for row in page["data"]:
            for path in ("", "/messages", "/events?follow=false"):
                answers.append((await client.get(f"/api/v1/sessions/{row['id']}{path}")).text)
        written = bytes_of(tmp_path)
    assert page["total"] == 2
    assert sum("event: done" in answer for answer in answers) == 2
    everything = b"\n".join([written, bytes_of(tmp_path), caplog.text.encode(), *map(str.encode, answers)])
    assert b"I am ada" in everything
    assert b"openai_compatible" in everything
    for key in keys.values():
        assert key.encode() not in everything
        assert key[:16].encode() not in everything


async def test_the_turns_tokens_are_counted_under_a_name_that_no_model_of_the_operators_has() -> None:
    provider = ScriptedProvider([MessageDelta(content="hello"), Usage(3, 2)])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        await allow(client, "scripted")
        await ask(client, OWN)
        await ask(client, {})
        rows = (await client.get("/api/v1/usage?group_by=model")).json()["data"]
    assert [(row["key"], row["input_tokens"]) for row in rows] == [("own:scripted", 3), ("test", 3)]


async def test_a_message_that_waited_when_the_engine_was_killed_is_not_answered_for_its_key_is_gone(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins")), "BYTEBREW_LOG_LEVEL": "debug"}
    admin = {"authorization": f"Bearer {ADMIN}"}
    own = {"X-Model-Provider": "slow", "X-Model-API-Key": KEY, "X-Model-Name": "slow"}
    session_id = new_uuid()
    with serving(folder, settings) as process:
        async with httpx.AsyncClient(base_url=process.url, headers=admin, timeout=20) as client:
            await allow(client, "slow")
            url, body = "/api/v1/schemas/demo/chat", {"message": "5000", "session_id": session_id}
            async with (
                client.stream("POST", url, json=body, headers=own) as running,
                client.stream("POST", url, json=body, headers=own) as waiting,
            ):
                assert await anext(aiter(events_of(running)))
                assert waiting.headers["x-turn-id"]
                process.kill()
    assert KEY.encode() not in bytes_of(folder)
    with serving(folder, settings) as process:
        async with httpx.AsyncClient(base_url=process.url, headers=admin, timeout=20) as client:
            page = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false&limit=500")).json()
            while page["events"][-1]["id"] < page["last"]:
                after = page["events"][-1]["id"]
                page = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false&after={after}")).json()
            ends = [event["data"] for event in page["events"] if event["event"] == "error"]
            assert (len(ends), ends[-1]["code"]) == (2, "credential_lost")
            assert "send the message again" in ends[-1]["message"]
            rest = await client.post(url, json={**body, "message": "1", "stream": False}, headers=own)
            assert rest.json()["status"] == "completed"
        process.stop()
        assert KEY not in process.output + process.errors
    assert KEY.encode() not in bytes_of(folder)
