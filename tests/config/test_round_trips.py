"""What GET gives, PUT and PATCH take, for every resource of the API document; what only GET gives stays."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from bytebrew.config import import_export
from bytebrew.testing import chat, served_engine
from tests.tables import installed

WRITES = ("put", "patch")


class Resource(NamedTuple):
    """A thing at a path: the fields that its GET gives, those that its writes take, and the writes."""

    path: str
    given: dict[str, Any]
    taken: set[str]
    methods: list[str]


class World(NamedTuple):
    """An engine with one of each resource, made by the document's own examples; `urls` by path."""

    client: httpx.AsyncClient
    resources: dict[str, Resource]
    urls: dict[str, str]


PATHS = sorted({route.path for route in installed() if route.method in ("PUT", "PATCH")})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with served_engine() as (_, client):
        document = (await client.get("/api/v1/openapi.json")).json()
        await chat(client, "demo", "Hi")
        examples = {
            path: methods["post"]["requestBody"]["content"]["application/json"].get("example")
            for path, methods in document["paths"].items()
            if "application/json" in methods.get("post", {}).get("requestBody", {}).get("content", {})
        }
        resources = {path: resource(document, path) for path in PATHS}
        urls: dict[str, str] = {}
        for _ in range(5):  # some need others
            for path in PATHS:
                if path not in urls and (url := await made(client, path, examples, urls)):
                    urls[path] = url
        yield World(client, resources, urls)


def resource(document: dict[str, Any], path: str) -> Resource:
    methods = document["paths"][path]
    shapes = document["components"]["schemas"]
    assert "get" in methods, f"{path} can be written and not read"

    def fields(content: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = shapes[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]["properties"]
        return found

    writes = [method for method in WRITES if method in methods]
    taken = set(fields(methods[writes[0]]["requestBody"]["content"]))
    return Resource(path, fields(methods["get"]["responses"]["200"]["content"]), taken, writes)


async def made(client: httpx.AsyncClient, path: str, examples: dict[str, Any], urls: dict[str, str]) -> str | None:
    """The URL of a thing that an example makes, or of the first in the list where nothing is made there."""
    above, _, key = path.rpartition("/")
    if "{" in above:
        parent = above[: above.rindex("}") + 1]
        if parent not in urls:
            return None
        above = urls[parent] + above[len(parent) :]
    name = key.strip("{}")
    if template := examples.get(path.rpartition("/")[0]):
        answer = await client.post(above, json=template)
        if answer.status_code == 201:
            return f"{above}/{answer.json()[name]}"
    answer = (await client.get(above)).json()
    rows = answer if isinstance(answer, list) else answer["data"]
    own = [row for row in rows if row[name] != "demo"]
    return f"{above}/{own[0][name]}" if own else None


async def settled(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """What GET gives, once that changes no more by itself."""
    found: dict[str, Any] = {}
    while found != (found := (await client.get(url)).raise_for_status().json()):
        await asyncio.sleep(0.1)
    return found


def stored(one: Resource, found: dict[str, Any]) -> dict[str, Any]:
    """What of it is stored: a field that is live, like the tries of a connection, may move at any time."""
    return {name: value for name, value in found.items() if not one.given[name].get("readOnly")}


def other(value: Any) -> Any:
    """A value of the same kind that is not the same."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return [*value, "x"]
        case dict():
            return value | {"x": 1}
        case None:
            return "x"
    raise AssertionError(value)


async def test_what_get_gives_is_taken_back_and_nothing_changes_also_a_second_time(world: World) -> None:
    client = world.client
    for path, url in world.urls.items():
        one = world.resources[path]
        for method in one.methods:
            before = await settled(client, url)
            for _ in range(2):  # the second time it has been updated since
                answer = await client.request(method, url, json=before)
                assert answer.status_code in (200, 204), (method, url, answer.text)
            assert stored(one, await settled(client, url)) == stored(one, before)


async def test_a_field_that_only_get_gives_is_refused_by_name_where_it_is_changed(world: World) -> None:
    client, refused = world.client, 0
    for path, url in world.urls.items():
        one, others = world.resources[path], aliases(path)
        before = await settled(client, url)
        for name in one.given.keys() - one.taken - others:
            live = one.given[name].get("readOnly", False)
            value = {"no": "such"} if live else other(before[name])
            for method in one.methods:
                answer = await client.request(method, url, json=before | {name: value})
                assert answer.status_code == 400, (method, url, name, answer.text)
                assert f"$.{name}" in [detail["path"] for detail in answer.json()["details"]], (url, answer.text)
                refused += 1
        assert stored(one, await settled(client, url)) == stored(one, before)
    assert refused > 100


def aliases(path: str) -> set[str]:
    return {alias for route in installed() if route.path == path for alias in route.aliases}


async def test_an_unknown_field_is_refused_as_ever(world: World) -> None:
    for path, url in world.urls.items():
        for method in world.resources[path].methods:
            answer = await world.client.request(method, url, json={"colour": "red"})
            assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "$.colour"), path


async def test_every_resource_that_can_be_written_is_walked(world: World) -> None:
    assert world.urls.keys() == set(PATHS)
    assert len(PATHS) >= 14


async def test_a_field_under_its_other_name_is_passed_over_while_it_is_as_it_was(world: World) -> None:
    client, url = world.client, world.urls["/api/v1/schemas/{name}"]
    shown = (await client.get(url)).json()
    changed = await client.put(url, json=shown | {"entry_agent": "demo", "relations": []})
    assert (changed.status_code, changed.json()["entry_agent_name"]) == (200, "demo")
    agent = world.urls["/api/v1/agents/{name}"]
    shown = (await client.get(agent)).json()
    assert (await client.put(agent, json=shown | {"system": "Be brief"})).json()["system_prompt"] == "Be brief"
    clash = await client.put(agent, json=shown | {"system": "One", "system_prompt": "Two"})
    assert (clash.status_code, clash.json()["details"][0]["path"]) == (400, "$.system_prompt")


async def test_parts_of_a_list_keep_their_ids_and_are_refused_by_name_too(world: World) -> None:
    client, url = world.client, world.urls["/api/v1/schemas/{name}"]
    shown = (await client.get(url)).json()
    [relation] = shown["relations"]
    edited = [relation | {"config": {"note": "new"}}]
    assert (await client.put(url, json=shown | {"relations": edited})).json()["relations"] == edited
    for name in ("id", "schema_id"):
        answer = await client.put(url, json=shown | {"relations": [relation | {name: "another"}]})
        assert answer.status_code == 400
        assert f"$.relations[0].{name}" in [one["path"] for one in answer.json()["details"]]
    assert (await client.get(url)).json()["relations"] == edited


async def test_the_config_of_a_relation_stays_where_what_get_gives_comes_back(world: World) -> None:
    client, url = world.client, world.urls["/api/v1/schemas/{name}/agent-relations/{id}"]
    shown = (await client.get(url)).json() | {"config": {"note": "for small talk"}}
    for _ in range(2):  # the second time it is as it was
        assert (await client.put(url, json=shown)).status_code == 204
        assert (await client.get(url)).json() == shown
    ends = {name: shown[name] for name in ("source", "target")}
    assert (await client.put(url, json=ends)).status_code == 204
    assert (await client.get(url)).json()["config"] == {}


async def test_an_agent_without_a_model_of_its_own_stays_so_where_what_get_gives_comes_back() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        shown = (await client.get("/api/v1/agents/a")).json()
        for method in WRITES:
            answer = await client.request(method, "/api/v1/agents/a", json=shown | {"max_steps": 7})
            assert (answer.status_code, answer.json()["model"]) == (200, shown["model"])
        other = {"name": "other", "type": "ollama", "model_name": "x", "is_default": True}
        assert (await client.post("/api/v1/models", json=other)).status_code == 201
        assert (await client.get("/api/v1/agents/a")).json()["model"] == "other"


async def test_secrets_stay_where_what_get_gives_comes_back() -> None:
    async with served_engine() as (running, client):
        tool = {"name": "t", "url": "http://127.0.0.1:1/", "auth": {"type": "basic", "username": "u", "password": "p"}}
        server = {"name": "s", "url": "http://127.0.0.1:1/", "headers": {"X-Key": "k"}, "env": {"A": "a"}}
        model = {"name": "m", "type": "anthropic", "model_name": "x", "api_key": "sk-ant-one"}
        embedder = {"name": "e", "type": "openai_compatible", "model_name": "e", "kind": "embedding", "api_key": "k"}
        base = {"name": "b", "embedding_model": "e"}
        for path, body in (
            ("tools", tool),
            ("mcp-servers", server | {"auth_type": "bearer", "auth_key": "k", "enabled": False}),
            ("models", model),
            ("models", embedder),
            ("knowledge-bases", base),
            ("webhooks", {"name": "w", "agent": "demo", "message": "m", "secret": "x" * 20}),
        ):
            url = f"/api/v1/{path}"
            made = await client.post(url, json=body)
            assert made.status_code == 201, made.text
            shown = (await client.get(f"{url}/{made.json().get('name')}")).json()
            before = await running.db.read(import_export.state, running)  # with credentials in the clear
            answer = await client.put(f"{url}/{shown['name']}", json=shown)
            assert answer.status_code == 200, answer.text
            assert await running.db.read(import_export.state, running) == before
            assert answer.json() | {"updated_at": ""} == shown | {"updated_at": ""}


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("models", {"name": "m2", "type": "ollama", "model_name": "x", "pricing_input": 1.5, "is_default": True}),
    ("models", {"name": "m3", "type": "openai_compatible", "model_name": "e", "kind": "embedding", "embedding_dim": 3}),
    ("models", {"name": "m4", "type": "ollama", "model_name": "y", "fallback": ["m2"]}),
    (
        "agents",
        {
            "name": "a2",
            "model": "m4",
            "tools": ["current_time", "later"],
            "can_spawn": ["demo"],
            "temperature": 0.5,
            "stop_sequences": ["end"],
            "confirm_before": ["later"],
            "mcp_servers": ["later"],
        },
    ),
    ("mcp-servers", {"name": "s2", "command": "true", "args": ["--key", "k"], "env": {"A": "a"}, "enabled": False}),
    ("mcp-servers", {"name": "s3", "url": "http://127.0.0.1:1/", "type": "sse", "allow_tools": [], "enabled": False}),
    ("tools", {"name": "t2", "endpoint": "POST http://127.0.0.1:1/{{id}}", "body": {"a": "{{b}}"}, "timeout": 5}),
    ("tools", {"name": "t3", "url": "http://127.0.0.1:1/", "params": [{"name": "q", "type": "integer", "default": 1}]}),
    ("tools", {"name": "t4", "url": "https://a.test/", "auth": {"type": "header", "name": "X-Key", "value": "k"}}),
    ("rate-limits", {"name": "r2", "per": "token", "tiers": {"all": {"unlimited": True}}}),
    ("budgets", {"name": "b2", "per": "schema", "only": "demo", "tokens": 10**9, "window": "hour", "soft": 0.5}),
    ("schedules", {"name": "c2", "cron": "0 9 * * *", "agent": "demo", "timezone": "Europe/Berlin", "missed": "once"}),
    ("webhooks", {"name": "w2", "agent": "demo", "schema": "demo", "enabled": False}),
    ("knowledge-bases", {"name": "Base Two", "embedding_model": "m3"}),
]


async def test_whatever_a_resource_is_made_of_comes_back_by_put_and_patch() -> None:
    async with served_engine() as (_, client):
        for path, body in BODIES:
            made = await client.post(f"/api/v1/{path}", json=body)
            assert made.status_code == 201, (path, made.text)
            url = f"/api/v1/{path}/{body['name']}"
            shown = (await client.get(url)).json()
            for method in WRITES:
                answer = await client.request(method, url, json=shown)
                assert answer.status_code == 200, (method, url, answer.text)
                after = (await client.get(url)).json()
                assert after | {"updated_at": "", "status": ""} == shown | {"updated_at": "", "status": ""}, url


async def test_a_session_with_long_messages_comes_back_too() -> None:
    async with served_engine() as (_, client):
        said = await client.post("/api/v1/schemas/demo/chat", json={"message": "x" * 900_000, "stream": False})
        url = f"/api/v1/sessions/{said.json()['session_id']}"
        shown = (await client.get(url)).json()
        for method in WRITES:
            answer = await client.request(method, url, json=shown | {"title": method})
            assert (answer.status_code, answer.json().get("title")) == (200, method), answer.text


async def test_a_text_that_is_shown_otherwise_than_it_is_stored_stays_as_it_is() -> None:
    async with served_engine() as (running, client):
        new = {"agent": "demo", "title": "Pay \u202eRUE 09", "require_approval": True}
        url = f"/api/v1/tasks/{(await client.post('/api/v1/tasks', json=new)).json()['id']}"
        shown = (await client.get(url)).json()
        assert shown["title"] != new["title"]
        assert (await client.put(url, json=shown | {"priority": 1})).json()["priority"] == 1
        sql = "select title from tasks"
        assert await running.db.read(lambda conn: conn.execute(sql).fetchone()[0]) == new["title"]
