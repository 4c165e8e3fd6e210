"""Rules that hold through every face: whose a turn is, what its view hides, and what refuses it."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest
from bytebrew_ag_ui.routes import FACE as AG_UI
from bytebrew_ai_sdk.routes import FACE as AI_SDK
from bytebrew_mcp_server.messages import FACE as MCP
from bytebrew_mcp_server.revisions import SUPPORTED, TASKS
from bytebrew_openai.chat.routes import FACE as CHAT
from bytebrew_openai.responses.routes import FACE as RESPONSES

from bytebrew.base.formats import new_uuid
from bytebrew.contract.route import Face
from bytebrew.engine import Engine
from bytebrew.testing import client as client_of
from bytebrew.testing import served_engine
from tests.peers import paced
from tests.tables import check_refusal, installed, token_with

VERSION, CAPABILITIES = (f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientCapabilities"))
ORIGIN = "https://page.example"
NUMBER, CITY = 424242, "Tromso"
STEPS = json.dumps([[{"think": "hidden thought"}, "Well, ", ["weather", {"city": CITY}]], ["it is fine."]])
ASKS = json.dumps([[["pay", {"amount": NUMBER}]], ["paid."]])
HIDDEN = ("hidden thought", CITY, str(NUMBER), "weather", "pay", "paced", "agent-within", "Sunny")
"""What no byte in the public view may hold."""


class Asked(NamedTuple):
    """A request: method, path and body."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})

    async def sent(self, client: httpx.AsyncClient, **headers: str) -> httpx.Response:
        return await client.request(self.method, self.path, json=self.body, headers={**self.headers, **headers})


class Spoken(NamedTuple):
    """A protocol: how a message is sent to a schema, what reads or changes its turn, and how a question is approved.

    `say` begins a session of its own. `about` are requests that only the caller of the answer may make, the last of
    which ends the session.
    """

    face: Face
    say: Callable[[str, str], Asked]
    about: Callable[[Asked, httpx.Response], list[Asked]]
    approve: Callable[[Asked, httpx.Response], Asked]


def chat(schema: str, text: str) -> Asked:
    body = {"model": schema, "messages": [{"role": "user", "content": text}], "stream": True}
    return Asked("POST", "/v1/chat/completions", body)


def chat_goes_on(first: Asked, answer: httpx.Response, text: str = "yes") -> Asked:
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    messages = [*first.body["messages"], {"role": "assistant", "content": said}, {"role": "user", "content": text}]
    return first._replace(body={**first.body, "messages": messages})


def response(schema: str, text: str) -> Asked:
    return Asked("POST", "/v1/responses", {"model": schema, "input": text, "stream": True})


def response_about(first: Asked, answer: httpx.Response) -> list[Asked]:
    at = f"/v1/responses/{items(answer)['id']}"
    return [
        Asked("GET", at),
        Asked("GET", f"{at}?stream=true&starting_after=1"),
        Asked("GET", f"{at}/input_items"),
        Asked("POST", "/v1/responses", {**first.body, "previous_response_id": items(answer)["id"]}),
        Asked("POST", f"{at}/cancel"),
        Asked("DELETE", at),
    ]


def items(answer: httpx.Response) -> Any:
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return json.loads(lines[-1])["response"]


def response_approves(first: Asked, answer: httpx.Response) -> Asked:
    last = items(answer)
    [asked] = [one for one in last["output"] if one["type"] == "mcp_approval_request"]
    answered = {"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": True}
    return first._replace(body={**first.body, "input": [answered], "previous_response_id": last["id"]})


def ui_chat(schema: str, text: str) -> Asked:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return Asked("POST", f"/ai-sdk/{schema}/chat", {"id": new_uuid(), "messages": [message]})


def ui_chat_approves(first: Asked, answer: httpx.Response) -> Asked:
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    [asked] = [one["approvalId"] for one in chunks if one["type"] == "tool-approval-request"]
    part = {"type": "tool-pay", "state": "approval-responded", "approval": {"id": asked, "approved": True}}
    message = {"id": chunks[0]["messageId"], "role": "assistant", "parts": [part]}
    return first._replace(body={**first.body, "messages": [*first.body["messages"], message]})


def run(schema: str, text: str) -> Asked:
    message = {"id": "m1", "role": "user", "content": text}
    return Asked("POST", f"/ag-ui/{schema}", {"threadId": new_uuid(), "runId": "r1", "messages": [message]})


def run_events(answer: httpx.Response) -> list[Any]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]


def run_about(first: Asked, answer: httpx.Response) -> list[Asked]:
    began = run_events(answer)[0]
    at = f"{first.path}/threads/{began['threadId']}/runs/{began['runId']}"
    return [Asked("GET", at), Asked("GET", began["metadata"]["bytebrew"]["resume"])]


def run_approves(first: Asked, answer: httpx.Response) -> Asked:
    [asked] = run_events(answer)[-1]["outcome"]["interrupts"]
    entry = {"interruptId": asked["id"], "status": "resolved", "payload": {"approved": True}}
    return first._replace(body={**first.body, "runId": "r2", "resume": [entry]})


def ui_chat_about(first: Asked, answer: httpx.Response) -> list[Asked]:
    chat = f"{first.path}/{answer.headers['x-session-id']}"
    return [Asked("GET", chat), Asked("GET", f"{chat}/stream"), Asked("POST", f"{chat}/stop", {})]


def mcp_call(schema: str, text: str, **more: Any) -> Asked:
    """A call of the newest revision, which has no sessions of its own."""
    meta = {VERSION: SUPPORTED[0], CAPABILITIES: {"elicitation": {}}}
    params = {"name": schema, "arguments": {"message": text}, "_meta": meta, **more}
    headers = {"mcp-protocol-version": SUPPORTED[0], "mcp-method": "tools/call", "mcp-name": schema}
    return Asked("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers)


def mcp_about(first: Asked, answer: httpx.Response) -> list[Asked]:
    ids = answer.json()["result"]["structuredContent"]
    params = first.body["params"]
    meta, asked = {"_meta": params["_meta"] | {CAPABILITIES: {"extensions": {TASKS: {}}}}}, []
    for method in ("tasks/get", "tasks/cancel"):
        body = {**first.body, "method": method, "params": {"taskId": ids["turn_id"], **meta}}
        asked.append(
            first._replace(body=body, headers={**first.headers, "mcp-method": method, "mcp-name": ids["turn_id"]})
        )
    again = {**params, "arguments": {"message": "", "turn_id": ids["turn_id"]}}
    return [*asked, first._replace(body={**first.body, "params": again})]


def mcp_approves(first: Asked, answer: httpx.Response) -> Asked:
    result = answer.json()["result"]
    answers = {key: {"action": "accept", "content": {"decision": "approve"}} for key in result["inputRequests"]}
    more = {"requestState": result["requestState"], "inputResponses": answers}
    return first._replace(body={**first.body, "params": {**first.body["params"], **more}})


SPOKEN = {
    "ag_ui": Spoken(AG_UI, run, run_about, run_approves),
    "mcp_server": Spoken(MCP, mcp_call, mcp_about, mcp_approves),
    "ai_sdk": Spoken(AI_SDK, ui_chat, ui_chat_about, ui_chat_approves),
    "openai_chat": Spoken(CHAT, chat, lambda *_: [], chat_goes_on),
    "openai_responses": Spoken(RESPONSES, response, response_about, response_approves),
}
every_face = pytest.mark.parametrize("spoken", SPOKEN.values(), ids=SPOKEN)


class World(NamedTuple):
    """An engine with the schemas `talk` and `other`, the latter as the public sees it."""

    engine: Engine
    admin: httpx.AsyncClient

    async def caller(self, **fields: Any) -> httpx.AsyncClient:
        """A client with a new token that may chat."""
        made = await token_with(self.engine, "chat", **{"name": new_uuid(), **fields})
        return client_of(self.engine, made.token)


@asynccontextmanager
async def world(data: Path) -> AsyncIterator[World]:
    settings = {"BYTEBREW_CORS_ORIGINS": ORIGIN}
    async with served_engine(("paced", paced), data=data, settings=settings) as (running, admin):
        agent = {"name": "agent-within", "model": "paced", "tools": ["weather", "pay"]}
        for path, body in (
            ("models", {"name": "paced", "type": "paced", "model_name": "paced"}),
            ("agents", agent),
            ("schemas", {"name": "talk", "entry_agent": "agent-within", "chat_enabled": True}),
            ("schemas", {"name": "other", "entry_agent": "agent-within", "chat_enabled": True, "view": "public"}),
        ):
            made = await admin.post(f"/api/v1/{path}", json=body)
            assert made.status_code == 201, made.text
        yield World(running, admin)


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as there:
        yield there


def check(spoken: Spoken, answer: httpx.Response, *statuses: int) -> None:
    """Fails unless an answer is a refusal with one of these statuses, in the protocol's shape."""
    assert answer.status_code in statuses, answer.text
    check_refusal(answer, face=spoken.face)


def test_every_face_is_held_to_these_rules() -> None:
    assert {spoken.face.name for spoken in SPOKEN.values()} == {one.face.name for one in installed() if one.face}


@every_face
async def test_a_token_that_is_bound_to_schemas_reaches_no_other(there: World, spoken: Spoken) -> None:
    bound = await there.caller(schemas=["talk"])
    assert (await spoken.say("talk", STEPS).sent(bound)).status_code == 200
    hidden, none = [await spoken.say(name, STEPS).sent(bound) for name in ("other", "nobody")]
    check(spoken, hidden, 400, 403, 404)
    check(spoken, none, 400, 404)


@every_face
async def test_another_callers_turn_is_not_there(there: World, spoken: Spoken) -> None:
    mine, stranger = await there.caller(), await there.caller()
    first = spoken.say("talk", STEPS)
    answer = await first.sent(mine)
    assert answer.status_code == 200, answer.text
    session = f"/api/v1/sessions/{answer.headers['x-session-id']}"
    before = (await there.admin.get(f"{session}/messages")).json()
    for one in spoken.about(first, answer):
        refused = await one.sent(stranger)
        assert "it is fine." not in refused.text
        if refused.status_code >= 300:  # else it is about a chat of the stranger's own, or a result that says so
            check(spoken, refused, 400, 404)
    assert (await there.admin.get(f"{session}/messages")).json() == before
    for one in spoken.about(first, answer):
        own = await one.sent(mine)
        assert own.status_code < 300 or own.status_code == 409, (one, own.text)


@every_face
async def test_a_caller_with_the_public_view_sees_nothing_of_how_an_answer_comes(there: World, spoken: Spoken) -> None:
    callers = [("other", await there.caller()), ("talk", await there.caller(view="public"))]
    for schema, caller in callers:
        first = spoken.say(schema, STEPS)
        answer = await first.sent(caller)
        assert answer.status_code == 200, answer.text
        shown = answer.text + str(answer.headers)
        for one in spoken.about(first, answer):
            if one.method == "GET":
                shown += (await one.sent(caller)).text.replace(json.dumps(STEPS)[1:-1], "the caller's own message")
        assert "it is fine." in shown
        assert not [word for word in HIDDEN if word in shown]


@every_face
async def test_an_approval_is_in_the_audit_under_the_callers_name(there: World, spoken: Spoken) -> None:
    person = await there.caller(name="the-person")
    first = spoken.say("talk", ASKS)
    asked = await first.sent(person)
    assert asked.status_code == 200, asked.text
    answer = await spoken.approve(first, asked).sent(person)
    assert answer.status_code == 200, answer.text
    assert "paid." in answer.text
    [entry] = (await there.admin.get("/api/v1/audit?action=approval.answer")).json()["data"]
    assert "the-person" in json.dumps(entry)
    assert entry["resource"] == f"POST /api/v1/sessions/{asked.headers['x-session-id']}/respond"


@every_face
async def test_a_budget_that_is_used_up_is_a_402(there: World, spoken: Spoken) -> None:
    budget = {"name": "small", "tokens": 10**6, "window": "month"}
    assert (await there.admin.post("/api/v1/budgets", json=budget)).status_code == 201
    caller = await there.caller()
    assert (await spoken.say("talk", "[[]]").sent(caller)).status_code == 200
    assert (await there.admin.patch("/api/v1/budgets/small", json={"tokens": 10})).status_code == 200
    refused = await spoken.say("talk", "[[]]").sent(caller)
    check(spoken, refused, 402)
    assert "small" in refused.text
    assert int(refused.headers["retry-after"]) > 0


@every_face
async def test_a_rate_limit_is_a_429_with_the_time_to_wait(there: World, spoken: Spoken) -> None:
    limit = {"name": "few", "per": "token", "tiers": {"all": {"requests": 1, "window": "1m"}}}
    assert (await there.admin.post("/api/v1/rate-limits", json=limit)).status_code == 201
    caller = await there.caller()
    first, second = [await spoken.say("talk", "[[]]").sent(caller) for _ in range(2)]
    assert first.status_code == 200
    check(spoken, second, 429)
    assert int(second.headers["retry-after"]) > 0


@every_face
async def test_the_same_key_begins_one_turn_and_another_body_is_refused(there: World, spoken: Spoken) -> None:
    caller, key = await there.caller(), new_uuid()
    asked = spoken.say("talk", STEPS)
    first, second = [await asked.sent(caller, **{"idempotency-key": key}) for _ in range(2)]
    assert first.status_code == 200, first.text
    assert first.content == second.content
    assert first.headers["x-turn-id"] == second.headers["x-turn-id"]
    assert (await there.admin.get("/api/v1/sessions")).json()["total"] == 1
    check(spoken, await spoken.say("talk", ASKS).sent(caller, **{"idempotency-key": key}), 422)


@every_face
async def test_a_page_of_an_allowed_origin_may_call(there: World, spoken: Spoken) -> None:
    caller, asked = await there.caller(), spoken.say("talk", "[[]]")
    wants = {"origin": ORIGIN, "access-control-request-method": asked.method}
    allowed = await caller.request("OPTIONS", asked.path, headers=wants)
    assert allowed.status_code in (200, 204)
    for answer in (allowed, await asked.sent(caller, origin=ORIGIN)):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
    foreign = await asked.sent(caller, origin="https://elsewhere.example")
    assert "access-control-allow-origin" not in foreign.headers


@every_face
async def test_no_answer_has_the_token(there: World, spoken: Spoken) -> None:
    caller = await there.caller()
    secret = caller.headers["authorization"].removeprefix("Bearer ")
    for schema in ("talk", "nobody"):
        answer = await spoken.say(schema, STEPS).sent(caller)
        assert secret not in answer.text + str(answer.headers)
