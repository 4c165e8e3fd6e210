"""The contract of faces, by one that writes a line for each event."""

import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct, to_builtins

from bytebrew import (
    CONVERSATIONS,
    EarlierTurn,
    EngineError,
    Face,
    FaceTurn,
    Message,
    MessageDelta,
    NewChat,
    Register,
    Reply,
    Request,
    Route,
    Stream,
    ToolSpec,
    TurnEvent,
    earlier_turns,
    project,
)
from bytebrew.testing import ScriptedProvider, plugin, providing, scripted_schema, served_engine, token
from bytebrew.testing import client as client_of
from tests import ledger
from tests.conversation.test_confirmations import configure

FACE = Face(
    name="Lines",
    refusal=lambda error: Reply(status=error.status, body={"line": error.code, "why": error.message}),
    ending=lambda error: f"data: broken {error.code}\n\n".encode(),
)
WHERE = ToolSpec("where_am_i", "The place", {"type": "object"})


class Line(Struct, kw_only=True):
    """A message to a schema, by the names of `NewChat`."""

    schema: str = "test"
    steps: Any = ()
    session_id: str | None = None
    fork_after: int | None = None
    history: tuple[EarlierTurn, ...] = ()
    instructions: str = ""
    key: str = ""
    kept: Any = None
    tools: bool = False
    whole: bool = False


class Lines:
    """A line for each event; it ends where the turn waits."""

    def __init__(self, through: Sequence[str] = ()) -> None:
        self.ended = False
        self._behind = {*through}

    def frames(self, one: TurnEvent) -> bytes:
        if one.event is not None and one.event.name == "tool_result":
            self._behind.discard(to_builtins(one.event)["call_id"])
        last = one.event is not None and one.event.name in ("done", "error")
        self.ended = last or (one.waits and not self._behind)
        shown = {"name": one.event.name, **to_builtins(one.event)} if one.event is not None else {}
        waits = {"waits": one.waits, "waiting": one.waiting}
        return b"data: %s\n\n" % json.dumps({"n": one.number, **waits, **shown}).encode()


def line_face() -> tuple[str, object]:
    async def say(request: Request[Line]) -> Stream | Reply:
        body = request.body
        chats = request.engine.state[CONVERSATIONS]
        turn = await chats.begin(
            request,
            NewChat(
                schema=body.schema,
                message=json.dumps(body.steps),
                session_id=body.session_id,
                fork_after=body.fork_after,
                history=body.history,
                instructions=body.instructions,
                client_tools=(WHERE,) if body.tools else (),
                key=body.key,
                kept=body.kept,
            ),
        )
        return shown(turn)

    def shown(turn: FaceTurn, after: int = 0, through: Sequence[str] = ()) -> Stream:
        headers = {"x-turn-id": turn.id, "x-session-id": turn.session_id}
        return Stream(frames=project(turn, Lines(through), after), headers=headers)

    async def again(request: Request[None]) -> Stream:
        turn = await request.engine.state[CONVERSATIONS].turn(request, request.path["id"])
        calls = [one for one in request.query.get("calls", "").split(",") if one]
        return shown(turn, int(request.query.get("after", "0")), calls)

    async def before(request: Request[None]) -> Any:
        turn = await request.engine.state[CONVERSATIONS].turn(request, request.path["id"])
        return await turn.before()

    async def find(request: Request[None]) -> Any:
        chats = request.engine.state[CONVERSATIONS]
        found = await chats.find(request, request.query["schema"], [request.query["key"]])
        return [{"id": one.id, "session": one.session_id, "kept": one.kept, "newest": one.newest} for one in found]

    async def calls(request: Request[None]) -> Any:
        return await request.engine.state[CONVERSATIONS].open_calls(request, request.path["id"])

    async def give(request: Request[dict[str, Any]]) -> Any:
        chats, session_id = request.engine.state[CONVERSATIONS], request.path["id"]
        open_calls = await chats.open_calls(request, session_id)
        by_question = {one.confirmation_id: one.call_id for one in open_calls}
        for call_id, result in request.body.items():
            if isinstance(result, bool):
                await chats.answer(request, session_id, call_id, approve=result)
            else:
                await chats.finish_call(request, session_id, call_id, result)
        turn = await chats.newest(request, session_id)
        assert turn is not None
        return shown(turn, through=[by_question.get(one, one) for one in request.body])

    async def schemas(request: Request[None]) -> Any:
        return await request.engine.state[CONVERSATIONS].schemas(request)

    async def end(request: Request[None]) -> None:
        await request.engine.state[CONVERSATIONS].delete(request, request.path["id"])

    async def broken(request: Request[None]) -> Stream:
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"data: a\n\n"
            raise EngineError("no more", code="gone") if request.query["why"] == "known" else KeyError("why")

        return Stream(frames=frames())

    def register_routes(register: Register[Route]) -> None:
        streams: dict[str, Any] = {"streams": True, "face": FACE}
        register(Route("POST", "/lines", "chat", say, "Say", body=Line, begins_turn=True, idempotent=True, **streams))
        register(Route("GET", "/lines/{id}", "chat", again, "Again", query={"after": "", "calls": ""}, **streams))
        register(Route("GET", "/lines/{id}/before", "chat", before, "Before", face=FACE))
        register(Route("GET", "/lines-found", "chat", find, "Find", query={"schema": "", "key": ""}, face=FACE))
        register(Route("GET", "/lines/{id}/calls", "chat", calls, "Calls", face=FACE))
        register(
            Route("POST", "/lines/{id}/calls", "chat", give, "Give", body=dict[str, Any], idempotent=True, **streams)
        )
        register(Route("GET", "/lines-schemas", "chat", schemas, "Schemas", face=FACE))
        register(Route("GET", "/lines-broken", "chat", broken, "Break", query={"why": ""}, **streams))
        register(Route("DELETE", "/lines-of/{id}", "chat", end, "End", face=FACE))

    return plugin("lines", register_routes=register_routes)


def world(data: Path, **settings: str) -> Any:
    given = {"BYTEBREW_LEDGER": str(data / "ledger"), **settings}
    return served_engine(("ledger", ledger), line_face(), data=data, settings=given)


async def ready(client: httpx.AsyncClient, view: str = "full", **agent: Any) -> None:
    await configure(client, **agent)
    changed = await client.patch("/api/v1/schemas/test", json={"client_tools": True, "view": view})
    assert changed.status_code == 200, changed.text


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(one[6:]) for one in response.text.split("\n\n") if one.startswith("data: ")]


async def say(
    client: httpx.AsyncClient, *steps: Any, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    return await client.post("/lines", json={"steps": steps, **body}, headers=headers)


async def test_a_face_follows_a_turn_of_its_own_and_again_from_any_event_with_the_same_bytes(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        first = await say(client, ["Hel", "lo"])
        shown = lines(first)
        assert [one["name"] for one in shown] == ["message_delta", "message_delta", "message", "done"]
        again = await client.get(f"/lines/{first.headers['x-turn-id']}")
        assert again.content == first.content
        for one in shown:
            rest = await client.get(f"/lines/{first.headers['x-turn-id']}?after={one['n']}")
            assert first.content.endswith(rest.content.removeprefix(b": ok\n\n"))


async def test_a_segment_ends_where_the_turn_waits_and_the_next_begins_behind_the_results(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client, tool_execution="parallel", confirm_before=["pay"])
        steps = ["ab ", ["where_am_i", {}], ["where_am_i", {"n": 2}], ["look", {"n": 1}]], [["pay", {"n": 3}]], ["end"]
        first = await say(client, *steps, tools=True)
        shown = lines(first)
        assert [one["waits"] for one in shown] == [False] * (len(shown) - 1) + [True]
        assert shown[-1]["name"] in ("tool_result", "client_tool_call")
        calls = [one["call_id"] for one in shown if one["name"] == "client_tool_call"]
        assert sorted(shown[-1]["waiting"]) == sorted(calls)
        session_id, turn_id = first.headers["x-session-id"], first.headers["x-turn-id"]
        open_calls = (await client.get(f"/lines/{session_id}/calls")).json()
        assert [one["kind"] for one in open_calls] == ["client_tool", "client_tool"]
        ids = [one["call_id"] for one in open_calls]
        for _ in range(2):  # the same results again change nothing
            second = await client.post(f"/lines/{session_id}/calls", json=dict.fromkeys(ids, "here"))
            ends = lines(second)[-1]
            assert (ends["name"], ends["waits"], ends["input"]) == ("confirmation", True, {"n": 3})
        by_calls = await client.get(f"/lines/{turn_id}?calls={','.join(ids)}")
        assert by_calls.content == second.content
        asked = ends["confirmation_id"]
        third = await client.post(f"/lines/{session_id}/calls", json={asked: True})
        assert lines(third)[-1]["name"] == "done"
        audit = (await client.get("/api/v1/audit?limit=50")).json()
        answered = [one for one in audit["data"] if one["action"] == "approval.answer"]
        assert len(answered) >= 3  # two results of the client and the approval
        assert {one["resource"] for one in answered} == {f"POST /api/v1/sessions/{session_id}/respond"}


async def test_a_brought_history_becomes_turns_that_the_model_reads_and_a_face_finds(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        history = earlier_turns(
            [
                Message("user", "one"),
                Message("user", "more"),
                Message("assistant", "1"),
                Message("user", "two"),
                Message("assistant", "2"),
            ]
        )
        keyed = [to_builtins(one) | {"key": f"k{n}"} for n, one in enumerate(history)]
        first = await say(client, ["end"], history=keyed, key="mine", kept={"a": [1]}, instructions="Be brief")
        session_id = first.headers["x-session-id"]
        assert lines(first)[0]["n"] == 7
        messages = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()
        assert [one["content"] for one in messages][:4] == ["one\n\nmore", "1", "two", "2"]
        events = (await client.get(f"/api/v1/sessions/{session_id}/events?follow=false")).json()["data"]
        assert [one["event"] for one in events[:6]] == ["message_delta", "message", "done"] * 2
        assert [one["id"] for one in events] == [*range(1, len(events) + 1)]
        [found] = (await client.get("/lines-found?schema=test&key=mine")).json()
        assert found == {"id": first.headers["x-turn-id"], "session": session_id, "kept": {"a": [1]}, "newest": True}
        [past] = (await client.get("/lines-found?schema=test&key=k0")).json()
        assert (past["session"], past["newest"]) == (session_id, False)
        one = lines(await client.get(f"/lines/{past['id']}"))
        assert [event["name"] for event in one] == ["message_delta", "message", "done"]
        forked = await say(
            client, ["other"], session_id=session_id, fork_after=one[-1]["n"], history=keyed[1:], key="edited"
        )
        again = forked.headers["x-session-id"]
        assert again != session_id
        messages = (await client.get(f"/api/v1/sessions/{again}/messages")).json()
        assert [one["content"] for one in messages][:4] == ["one\n\nmore", "1", "two", "2"]
        refused = await say(client, ["x"], session_id=session_id, history=keyed)
        assert (refused.status_code, refused.json()["line"]) == (422, "unprocessable")
        with_id = await say(client, ["x"], session_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", history=keyed)
        assert lines(with_id)[0]["n"] == 7
        assert (await client.delete(f"/lines-of/{again}")).status_code == 204
        assert (await client.get(f"/api/v1/sessions/{again}")).status_code == 404


async def test_a_repeated_key_has_the_bytes_of_the_first_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        first, second = [await say(client, ["abc"], headers={"Idempotency-Key": "k"}) for _ in range(2)]
        assert first.content == second.content
        other = await say(client, ["abd"], headers={"Idempotency-Key": "k"})
        assert (other.status_code, other.json()["line"]) == (422, "idempotency_key_reused")


async def test_every_refusal_is_in_the_faces_own_shape(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        await ready(client)
        bound = client_of(running, await token(running, "chat", schemas=["other"]))
        for response, status, code in (
            (await say(client, schema="none"), 404, "not_found"),
            (await client.post("/lines", json={"steps": 1, "session_id": 5}), 400, "invalid_request"),
            (await client.post("/lines", content=b"{"), 400, "invalid_request"),
            (await client.put("/lines"), 405, "method_not_allowed"),
            (await client.post("/lines", json={}, headers={"Authorization": "Bearer bb_no"}), 401, "unauthorized"),
            (await say(bound), 403, "forbidden"),
            (await client.get("/lines/none"), 404, "not_found"),
            (await client.get("/lines/none?x=1"), 400, "invalid_request"),
        ):
            assert (response.status_code, response.json()["line"]) == (status, code), response.text
        assert (await bound.get("/lines-schemas")).json() == []
        assert [one["name"] for one in (await client.get("/lines-schemas")).json()] == ["demo", "test"]


async def test_the_public_view_of_a_schema_holds_in_a_face(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        await ready(client, view="public", confirm_before=["pay"])
        visitor = client_of(running, await token(running, "chat"))
        first = await say(visitor, ["hm ", ["look", {"n": "s3cr3t"}]], [["pay", {"n": "s3cr3t"}]], ["end"], tools=True)
        shown = lines(first)
        assert [one["name"] for one in shown] == ["message_delta", "confirmation"]
        assert shown[-1]["waits"]
        assert shown[-1]["waiting"] == [shown[-1]["confirmation_id"]]
        assert "s3cr3t" not in first.text
        assert "pay" not in first.text
        session_id, asked = first.headers["x-session-id"], shown[-1]["call_id"]
        refused = await visitor.post(f"/lines/{session_id}/calls", json={asked: True})
        assert (refused.status_code, refused.json()["line"]) == (403, "forbidden")
        [call] = (await visitor.get(f"/lines/{session_id}/calls")).json()
        assert (call["tool"], call["input"], call["call_id"]) == ("", {}, asked)
        stranger = client_of(running, await token(running, "chat"))
        assert (await stranger.get(f"/lines/{first.headers['x-turn-id']}")).status_code == 404
        assert (await stranger.get(f"/lines/{session_id}/calls")).status_code == 404


async def test_a_face_reads_the_turns_before_one_as_its_caller_may_see_them(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        await ready(client, view="public")
        visitor = client_of(running, await token(running, "chat"))
        first = await say(visitor, ["a ", ["look", {"n": 1}]], ["end"], kept={"a": 1})
        session_id = first.headers["x-session-id"]
        second = await say(visitor, ["b"], session_id=session_id)
        third = await say(visitor, ["c"], session_id=session_id)
        [one, two] = (await visitor.get(f"/lines/{third.headers['x-turn-id']}/before")).json()
        assert [one["id"], two["id"]] == [answer.headers["x-turn-id"] for answer in (first, second)]
        assert (one["kept"], two["kept"]) == ({"a": 1}, None)
        assert [(part["role"], part.get("content")) for part in one["messages"][1:]] == [
            ("assistant", "a "),
            ("assistant", "end"),
        ]
        assert "tool_calls" not in str(one)
        [whole, _] = (await client.get(f"/lines/{third.headers['x-turn-id']}/before")).json()
        assert [part["role"] for part in whole["messages"]] == ["user", "assistant", "tool", "assistant"]
        assert (await client.get(f"/lines/{first.headers['x-turn-id']}/before")).json() == []
        await say(visitor, ["x" * 600_000], session_id=session_id)
        last = await say(visitor, ["end"], session_id=session_id)
        too_many = await visitor.get(f"/lines/{last.headers['x-turn-id']}/before")
        assert too_many.status_code == 204


async def test_a_stream_that_breaks_ends_with_the_faces_own_frames(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        for why, code in (("known", "gone"), ("unknown", "internal_error")):
            broken = await client.get(f"/lines-broken?why={why}")
            assert broken.text.endswith(f"data: a\n\ndata: broken {code}\n\n")


def test_turns_of_a_conversation_begin_with_the_user() -> None:
    with pytest.raises(ValueError, match="begins with a message of the user"):
        earlier_turns([Message("assistant", "hi")])


def test_an_error_is_one_of_the_engine() -> None:
    assert FACE.refusal(EngineError("why")).status == 500


async def test_instructions_are_words_of_the_user_for_one_turn(tmp_path: Path) -> None:
    scripted = ScriptedProvider([MessageDelta(content="ok")])
    async with served_engine(providing(scripted), line_face(), data=tmp_path) as (running, client):
        await scripted_schema(running)
        first = await say(client, instructions="Be brief")
        await say(client, session_id=first.headers["x-session-id"])
        with_words, without = scripted.requests
        assert [(one.role, one.content) for one in with_words.messages] == [
            ("user", "Instructions of the client, for this answer:\nBe brief"),
            ("user", "[]"),
        ]
        assert "Be brief" not in str(without)


async def test_what_a_face_keeps_is_in_the_export_of_its_person(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        await ready(client)
        await say(client, ["end"], instructions="Be brief", kept={"note": "mine"})
        owner = await running.db.read(lambda conn: conn.execute("select owner from sessions").fetchone()[0])
        kept = await client.get(f"/api/v1/users/{owner}/export")
        assert "Be brief" in kept.text
        assert '"note":"mine"' in kept.text
