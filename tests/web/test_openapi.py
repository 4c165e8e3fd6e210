"""The OpenAPI document is valid, complete, and true; its page needs nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from bytebrew import Result, tool
from bytebrew.contract import events
from bytebrew.testing import chat, engine, plugin, served_engine
from bytebrew.web.api_document.openapi import EVENTS
from bytebrew.web.query import takes_ticket
from tests.tables import installed, table

URL = "/api/v1/openapi.json"
ROOT = Path(__file__).parents[2]


_document: list[bytes] = []


async def document() -> dict[str, Any]:
    """What an engine with the bundled plugins answers, which is the same for every test."""
    if not _document:
        async with served_engine() as (_, client):
            del client.headers["Authorization"]
            answer = await client.get(URL)
            assert answer.status_code == 200
            _document.append(answer.content)
    found: dict[str, Any] = msgspec.json.decode(_document[0])
    return found


async def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(await document()).validate()


async def test_every_route_is_in_it_with_its_scope_and_every_operation_has_an_id_of_its_own() -> None:
    found = await document()
    async with engine() as running:
        routes = table(running)
    ids = []
    for route in routes:
        path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
        operation = found["paths"][path][route.method.lower()]
        assert operation.get("x-scope") == route.scope
        schemes = ["bearer", *(["ticket"] if takes_ticket(route) else [])]
        assert operation["security"] == ([] if route.scope is None else [{name: []} for name in schemes])
        assert operation["summary"]
        assert operation["description"]
        assert str(route.status) in operation["responses"]
        assert ("requestBody" in operation) is (route.body is not None or route.stream_body)
        ids.append(operation["operationId"])
    assert sum(len(methods) for methods in found["paths"].values()) == len(routes)
    assert len(set(ids)) == len(ids)


async def test_a_stream_of_another_protocol_is_described_by_one_of_its_events() -> None:
    found = await document()
    for path in ("/v1/chat/completions", "/v1/responses", "/ai-sdk/{schema}/chat", "/ag-ui/{schema}", "/mcp"):
        stream = found["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
        assert (stream["type"], stream["required"]) == ("object", ["data"])
    sent, read = (found["paths"]["/mcp"][method]["responses"] for method in ("post", "get"))
    assert "202" in sent, "a notification has no answer"
    assert "405" in read, "there is no stream but those of requests"


async def test_every_event_is_described_where_a_chat_streams_also_those_that_tools_bring_along() -> None:
    found = await document()
    shapes = found["components"]["schemas"]
    for path, method in (("/api/v1/schemas/{name}/chat", "post"), ("/api/v1/sessions/{id}/events", "get")):
        stream = found["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]
        assert stream["schema"] == {"$ref": "#/components/schemas/StreamEvent"}
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    known = {kind.name: kind.__name__ for kind in kinds - {events.Event}}
    assert known == {kind.name: kind.__name__ for kind in EVENTS}
    known["structured_output"] = "StructuredOutput"
    one = shapes["StreamEvent"]
    assert one["discriminator"]["propertyName"] == "event"
    assert one["discriminator"]["mapping"].keys() == known.keys()
    assert [choice["$ref"] for choice in one["oneOf"]] == [*one["discriminator"]["mapping"].values()]
    for name, target in one["discriminator"]["mapping"].items():
        frame = shapes[target.rpartition("/")[2]]["properties"]
        assert frame["event"] == {"type": "string", "const": name}
        assert frame["data"]["contentSchema"] == {"$ref": f"#/components/schemas/{known[name]}"}


async def test_a_plugins_tool_tells_the_document_of_its_own_events() -> None:
    class Rolled(events.Event, frozen=True, kw_only=True):
        """A die has been rolled."""

        name = "rolled"
        eyes: int

    @tool
    async def roll() -> Result:
        """Roll a die."""
        return Result(text="6", events=(Rolled(eyes=6),))

    roll.events = (Rolled,)

    def register_tools(register: Any) -> None:
        register(roll)

    async with served_engine(plugin(register_tools=register_tools)) as (_, client):
        shapes = (await client.get(URL)).json()["components"]["schemas"]
    assert shapes["StreamEvent"]["discriminator"]["mapping"]["rolled"] == "#/components/schemas/RolledFrame"
    assert shapes["Rolled"]["required"] == ["eyes"]


async def test_what_a_body_may_leave_out_is_optional_and_what_an_answer_always_has_is_required() -> None:
    found = await document()
    shapes = found["components"]["schemas"]
    assert shapes["NewAgent"]["required"] == ["name"]
    assert shapes["NewAgent"]["properties"]["max_steps"]["x-default"] == 50
    assert {"max_steps", "warnings", "capabilities"} <= set(shapes["AgentDetail"]["required"])
    assert "overload" not in shapes["Health"]["required"]
    assert not [path for path in places(found, "default") if not path.endswith(".properties.default")]


async def test_the_examples_fit_their_schemas_and_every_json_body_has_one() -> None:
    found = await document()
    without = []
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                if "example" in content:
                    schema = content["schema"] | {"components": found["components"]}
                    where = f"{method} {path}"
                    faults = [*OAS31Validator(schema).iter_errors(content["example"])]
                    assert not faults, (where, faults)
                elif media == "application/json":
                    without.append(f"{method} {path}")
    assert without == []


def places(value: Any, key: str, path: str = "$") -> Iterator[str]:
    """The paths at which a key stands."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield f"{path}.{name}"
            yield from places(inner, key, f"{path}.{name}")
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from places(inner, key, f"{path}[{n}]")


async def test_every_tag_is_described_and_the_document_says_where_the_engine_is() -> None:
    found = await document()
    tags = {tag["name"]: tag["description"] for tag in found["tags"]}
    used = {tag for methods in found["paths"].values() for one in methods.values() for tag in one["tags"]}
    assert tags.keys() == used
    assert all(tags.values())
    assert [*tags][-5:] == ["AG-UI", "AI SDK", "MCP server", "OpenAI Chat Completions", "OpenAI Responses"]
    assert found["servers"][0]["url"] == "/"


READS = re.compile(
    r"""(?:query(?:\.get\(|\[)|\b(?:moment|_number|_choice)\((?:request|(?:request\.)?query), )"([\w.]+)\""""
)


def test_every_parameter_that_a_file_of_routes_reads_is_declared_by_one_of_its_routes() -> None:
    declared: dict[str, set[str]] = {}
    for route in installed():
        module = getattr(route.run, "func", route.run).__module__
        declared.setdefault(module if module.startswith("bytebrew.") else module.partition(".")[0], set()).update(
            route.query
        )
    read: dict[str, set[str]] = {}
    for file in (*ROOT.glob("bytebrew/web/routes/*.py"), *ROOT.glob("plugins/**/*.py")):
        inside = file.relative_to(ROOT).with_suffix("").parts
        owner = ".".join(inside) if inside[0] == "bytebrew" else inside[1]
        read.setdefault(owner, set()).update(READS.findall(file.read_text()))
    assert read["bytebrew.web.routes.sessions"] > {"from", "to", "limit", "after"}
    assert read["bytebrew_knowledge"] > {"q"}
    assert {owner: left for owner, names in read.items() if (left := names - declared.get(owner, set()))} == {}


async def test_every_status_that_a_route_can_give_is_listed_and_refusals_have_one_shape() -> None:
    found = await document()
    for path, methods in found["paths"].items():
        for operation in methods.values():
            answers = operation["responses"]
            assert "default" not in answers
            assert {"429", "500", "503"} < set(answers)
            assert ({"401", "403"} <= set(answers)) or "x-scope" not in operation
            assert ("404" in answers) or "{" not in path
            assert ({"400", "413", "415"} <= set(answers)) or "requestBody" not in operation
    for refusal in found["components"]["responses"].values():
        assert refusal["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


async def test_no_name_or_pattern_is_one_that_only_python_reads() -> None:
    found = await document()
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in found["components"]["schemas"])
    assert all(schema["title"] == name for name, schema in found["components"]["schemas"].items())
    assert r"\\Z" not in msgspec.json.encode(found).decode()


async def test_an_answer_is_what_the_document_says() -> None:
    found = await document()
    schema = found["paths"]["/api/v1/health"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    health = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    async with served_engine() as (_, client):
        answer = (await client.get("/api/v1/health")).json()
    assert set(health["required"]) <= set(answer) <= set(health["properties"])


async def test_the_headers_of_a_stream_are_those_that_are_told() -> None:
    found = (await document())["paths"]
    async with served_engine() as (_, client):
        async with client.stream("POST", "/api/v1/schemas/demo/chat", json={"message": "Hi"}) as said:
            await said.aread()
        url = f"/api/v1/sessions/{said.headers['x-session-id']}/events"
        async with client.stream("GET", url) as events_again:
            pass
    for answer, path, method in (
        (said, "/api/v1/schemas/{name}/chat", "post"),
        (events_again, "/api/v1/sessions/{id}/events", "get"),
    ):
        told = {name.lower() for name in found[path][method]["responses"]["200"]["headers"]}
        assert told == {"x-session-id", "x-turn-id", "x-request-id", "server-timing"} & set(answer.headers)


async def test_headers_and_fields_that_only_some_answers_have_are_told_too() -> None:
    found = await document()
    limit = {"name": "one", "key_header": "X-Org", "tiers": {"all": {"requests": 1}}}
    async with served_engine() as (_, client):
        await chat(client, "demo", "Hi")
        [session] = (await client.get("/api/v1/sessions")).json()["data"]
        await client.post("/api/v1/rate-limits", json=limit)
        answers = [
            ("/config/export", "get", await client.get("/api/v1/config/export")),
            ("/config/import", "post", await client.post("/api/v1/config/import", content=b"agents: {}")),
            ("/config/import", "post", await client.post("/api/v1/config/import", content=b"no_such: {}")),
            (
                "/config/import",
                "post",
                await client.post("/api/v1/config/import", content=b"{}", headers={"If-Match": "0"}),
            ),
            ("/sessions/{id}/messages", "get", await client.get(f"/api/v1/sessions/{session['id']}/messages?limit=1")),
            ("/sessions", "get", await client.get("/api/v1/sessions", headers={"X-Org": "a"})),
            ("/sessions", "get", await client.get("/api/v1/sessions", headers={"X-Org": "a"})),
        ]
    assert [answer.status_code for _, _, answer in answers] == [200, 200, 400, 412, 200, 200, 429]
    for path, method, answer in answers:
        described = found["paths"][f"/api/v1{path}"][method]["responses"][str(answer.status_code)]
        if "$ref" in described:
            described = found["components"]["responses"][described["$ref"].rpartition("/")[2]]
            shape = found["components"]["schemas"]["Error"]["properties"]
            assert set(answer.json()) <= set(shape), path
            fault = found["components"]["schemas"][shape["details"]["items"]["$ref"].rpartition("/")[2]]
            assert all(set(one) <= set(fault["properties"]) for one in answer.json().get("details", ()))
        known = {name.lower() for name in described["headers"]}
        special = {"etag", "link", "content-disposition", "retry-after"} & set(answer.headers)
        assert special or path == "/sessions" or answer.status_code == 400
        assert special <= known, path
        limits = {name for name in answer.headers if name.startswith("x-ratelimit-")}
        assert limits <= {name.lower() for name in found["components"]["headers"]}
        assert (limits <= known) or answer.status_code == 200


async def test_no_description_keeps_the_indentation_of_the_source() -> None:
    assert not re.search(r'"description":"[^"]*\\n ', msgspec.json.encode(await document()).decode())


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("https://app.example.evil", False),
        ("http://app.example", False),
        ("null", False),
    ],
)
async def test_a_page_of_an_allowed_origin_alone_may_read_answers(origin: str, allowed: bool) -> None:
    async with served_engine(settings={"BYTEBREW_CORS_ORIGINS": "https://app.example"}) as (_, client):
        plain = await client.get("/api/v1/health", headers={"Origin": origin})
        refused = await client.get("/api/v1/agents", headers={"Origin": origin, "Authorization": "Bearer x"})
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        wanted = {**asked, "Access-Control-Request-Headers": "authorization, x-org-id"}
        preflight = await client.options("/api/v1/schemas/demo/chat", headers=wanted)
    for answer in (plain, refused, preflight):
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
        assert ("access-control-allow-origin" in answer.headers) is allowed
        assert answer.headers["vary"] == "Origin"
    assert refused.status_code == 401
    assert preflight.status_code == 204
    if allowed:
        assert "x-org-id" in preflight.headers["access-control-allow-headers"]
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        exposed = plain.headers["access-control-expose-headers"].split(", ")
        assert {"X-Session-Id", "Location", "Link", "ETag"} <= set(exposed)


async def test_without_a_list_no_origin_is_allowed_and_options_is_a_method_like_others() -> None:
    async with served_engine() as (_, client):
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        answer = await client.options("/api/v1/agents", headers=asked)
        plain = await client.get("/api/v1/health", headers={"Origin": "https://app.example"})
    assert answer.status_code == 405
    assert not any(name.startswith("access-control") for name in (*answer.headers, *plain.headers))


async def test_operations_have_the_refusals_of_unknown_parameters_and_of_answers_that_are_too_late() -> None:
    async with served_engine() as (_, client):
        document = (await client.get("/api/v1/openapi.json")).json()
        operations = [
            (path, method, one["responses"])
            for path, methods in document["paths"].items()
            for method, one in methods.items()
        ]
        assert [(path, method) for path, method, responses in operations if "400" not in responses] == []
        assert (await client.get("/api/v1/auth/tokens?no_such=1")).status_code == 400
        for path, _, responses in operations:
            assert "410" in responses or not path.endswith("/respond"), path
