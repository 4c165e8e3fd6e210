"""What a person approved is the call that runs: of the tool that was shown, with the arguments that were shown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Call, Tool
from bytebrew.engine import Engine
from bytebrew.testing import plugin, served_engine
from tests import ledger
from tests.conversation.test_confirmations import PAY, answer, configure, engine_on, follow, say
from tests.ledger import Ledger

HIDDEN, SHOWN = "ann\u200ba\u202e", "ann[U+200B]a[U+202E]"
SIGN = [[["sign", {"name": HIDDEN}]], ["ok"]]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Ledger]]:
    async with engine_on(tmp_path) as (_, client, written):
        await configure(client, confirm_before=["pay", "sign"])
        yield client, written


class Delete(Tool):
    """A tool of one name that comes from the one place or the other."""

    name = "delete"
    description = "Deletes."
    input_schema = {"type": "object"}

    def __init__(self, source: str, *, idempotent: bool) -> None:
        self.source, self.idempotent, self.calls = source, idempotent, 0

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        self.calls += 1
        return f"deleted in {self.source}"


@asynccontextmanager
async def deleting(data: Path, tool: Delete) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine whose tool `delete` is this one."""
    extra = plugin("deleting", register_tools=lambda register, settings: register(tool))
    given = {"BYTEBREW_LEDGER": str(data / "ledger")}
    async with served_engine(("ledger", ledger), extra, data=data, settings=given) as running:
        yield running


# The digest


async def test_an_approval_of_other_arguments_than_there_are_approves_nothing(
    served: tuple[httpx.AsyncClient, Ledger],
) -> None:
    client, written = served
    talk, other = say(client, PAY), say(client, [[["pay", {"amount": 1}]], ["ok"]])
    [asked], [small] = await talk.until("confirmation"), await other.until("confirmation")
    stale = await answer(client, talk.session_id, asked["call_id"], "approve", args_digest=small["args_digest"])
    assert (stale.status_code, stale.json()["error"]) == (409, "stale_digest")
    assert stale.json()["current"]["input"] == {"amount": 5}
    assert stale.json()["current"]["args_digest"] == asked["args_digest"]
    url = f"/api/v1/approvals/{asked['confirmation_id']}/respond"
    body = {"answers": ["approve"], "args_digest": small["args_digest"]}
    assert (await client.post(url, json=body)).status_code == 409
    assert (await client.post(url, json=body | {"args_digest": asked["args_digest"]})).status_code == 200
    await talk.end()
    assert written.counts()["pay 5"] == 1
    assert not written.counts()["pay 1"]


# The tool


async def test_a_question_is_asked_again_where_its_tool_comes_from_elsewhere_now(tmp_path: Path) -> None:
    files, bank = Delete("mcp:files", idempotent=False), Delete("mcp:bank", idempotent=False)
    async with deleting(tmp_path, files) as (running, client):
        await configure(client, tools=["delete"], confirm_before=["delete"])
        talk = say(client, [[["delete", {"id": 7}]], [None]])
        [asked] = await talk.until("confirmation")
        assert asked["source"] == "mcp:files"
        await running.drain(60)
    async with deleting(tmp_path, bank) as (_, client):
        rest = follow(client, talk.session_id, int(talk.seen[1].id))
        [again] = await rest.until("confirmation")
        assert (again["source"], again["call_id"], again["input"]) == ("mcp:bank", asked["call_id"], {"id": 7})
        assert again["args_digest"] != asked["args_digest"]
        session_id = talk.session_id
        assert (await answer(client, session_id, asked["confirmation_id"], "approve")).status_code == 404
        stale = await answer(client, session_id, asked["call_id"], "approve", args_digest=asked["args_digest"])
        assert (stale.status_code, stale.json()["current"]["source"]) == (409, "mcp:bank")
        assert bank.calls == 0
        await answer(client, session_id, again["confirmation_id"], "approve", args_digest=again["args_digest"])
        await rest.end()
    assert (files.calls, bank.calls) == (0, 1)


async def test_an_approval_that_was_not_used_is_not_one_of_another_tool(tmp_path: Path) -> None:
    files, bank = Delete("mcp:files", idempotent=False), Delete("mcp:bank", idempotent=False)
    async with deleting(tmp_path, files) as (running, client):
        await configure(client, tools=["delete"], confirm_before=["delete"])
        talk = say(client, [[["delete", {"id": 7}]], [None]])
        [asked] = await talk.until("confirmation")
        await running.drain(60)
        # as by an answer at the last moment
        approve = "update confirmations set status = 'approved', verdict = 'approve' where id = ?"
        await running.db.write(lambda conn: conn.execute(approve, (asked["confirmation_id"],)).rowcount)
    async with deleting(tmp_path, bank) as (_, client):
        rest = follow(client, talk.session_id, int(talk.seen[1].id))
        [again] = await rest.until("confirmation")
        await answer(client, talk.session_id, again["call_id"], "no")
        await rest.end()
    assert (files.calls, bank.calls) == (0, 0)


async def test_a_call_that_was_cut_runs_again_at_no_other_tool_than_the_approved(tmp_path: Path) -> None:
    files, bank = Delete("mcp:files", idempotent=True), Delete("mcp:bank", idempotent=True)
    async with deleting(tmp_path, files) as (running, client):
        await configure(client, tools=["delete"], confirm_before=["delete"])
        talk = say(client, [[["delete", {"id": 7}]], [None]])
        [asked] = await talk.until("confirmation")
        await running.drain(60)

        def begin(conn: Any) -> None:  # as by an engine that was killed in the middle of the call
            conn.execute("update confirmations set status = 'spent', verdict = 'approve'")
            conn.execute("update tool_calls set status = 'started', started_at = asked_at")

        await running.db.write(begin)
    async with deleting(tmp_path, bank) as (_, client):
        rest = follow(client, talk.session_id, int(talk.seen[1].id))
        [again] = await rest.until("confirmation")
        assert (again["kind"], again["source"]) == ("unknown_outcome", "mcp:bank")
        await answer(client, talk.session_id, again["confirmation_id"], "fail")
        await rest.end()
    assert (asked["kind"], files.calls, bank.calls) == ("confirm", 0, 0)


# What is shown


async def test_a_person_sees_what_is_invisible_and_the_tool_gets_it_as_it_is(
    served: tuple[httpx.AsyncClient, Ledger],
) -> None:
    client, written = served
    talk = say(client, SIGN)
    [asked] = await talk.until("confirmation")
    [waiting] = (await client.get("/api/v1/approvals")).json()["data"]
    answered = (await answer(client, talk.session_id, asked["call_id"], "approve")).json()
    await talk.end()
    assert {one["input"]["name"] for one in (asked, waiting, answered["confirmation"])} == {SHOWN}
    assert [one["input"]["name"] for one in talk.datas("tool_call")] == [HIDDEN]
    assert written.counts()[f"sign {HIDDEN}"] == 1


@pytest.mark.parametrize(
    ("sent", "signed"), [(SHOWN, HIDDEN), (HIDDEN, HIDDEN), ("bob", "bob"), (f"{SHOWN}!", f"{SHOWN}!")]
)
async def test_an_edited_text_that_was_left_as_shown_is_as_it_was(
    sent: str, signed: str, served: tuple[httpx.AsyncClient, Ledger]
) -> None:
    client, written = served
    talk = say(client, SIGN)
    [asked] = await talk.until("confirmation")
    for _ in range(2):  # the same answer again is the same
        answered = await answer(client, talk.session_id, asked["confirmation_id"], "approve", input={"name": sent})
        assert answered.status_code == 200
    await talk.end()
    assert written.counts()[f"sign {signed}"] == 1


async def test_a_tool_that_is_named_with_what_is_invisible_is_shown_so(
    served: tuple[httpx.AsyncClient, Ledger],
) -> None:
    client, _ = served
    await client.patch("/api/v1/agents/test", json={"confirm_before": ["pa\u200by"]})
    talk = say(client, [[["pa\u200by", {"a\u202e": [HIDDEN]}]], ["ok"]])
    [asked] = await talk.until("confirmation")
    assert (asked["tool"], asked["input"]) == ("pa[U+200B]y", {"a[U+202E]": [SHOWN]})
    await answer(client, talk.session_id, asked["call_id"], "no")
    await talk.end()
    assert talk.datas("tool_call")[0]["tool"] == "pa\u200by"
