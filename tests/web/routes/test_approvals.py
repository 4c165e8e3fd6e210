"""Approvals: who may answer what, how often, and the inbox."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from bytebrew.engine import Engine
from tests.conversation.test_confirmations import PAY, Talk, answer, configure, engine_on, say
from tests.tables import check_refusal


class Served(NamedTuple):
    """An engine with a question that waits, and the admin's client."""

    engine: Engine
    client: httpx.AsyncClient
    talk: Talk
    asked: dict[str, Any]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with engine_on(tmp_path) as (engine, client, _):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        yield Served(engine, client, talk, asked)


def refused_as(answered: httpx.Response, status: int, code: str) -> None:
    """A refusal in the one shape, with this status and code."""
    check_refusal(answered)
    assert (answered.status_code, answered.json()["error"]) == (status, code)


async def token(client: httpx.AsyncClient, *scopes: str) -> dict[str, str]:
    """The header of a new token with these scopes."""
    made = await client.post("/api/v1/auth/tokens", json={"name": "-".join(scopes), "scopes": scopes})
    return {"authorization": f"Bearer {made.json()['token']}"}


async def test_an_answer_says_what_it_was_taken_for_and_by_whom(served: Served) -> None:
    asked, call_id = served.asked["confirmation_id"], served.asked["call_id"]
    answered = await answer(served.client, served.talk.session_id, call_id, "approve", "it is cheap")
    await served.talk.end()
    assert answered.status_code == 200
    body = answered.json()
    kept = body.pop("confirmation")
    assert body == {"status": "ok", "confirmation_id": asked, "call_id": call_id, "approved": True}
    assert (kept["id"], kept["session_id"], kept["verdict"]) == (asked, served.talk.session_id, "approve")
    assert kept["call_id"] == call_id
    assert (kept["reason"], kept["edited"], kept["agent"]) == ("it is cheap", None, "test")
    assert kept["answered_by"].startswith("token:")
    assert kept["answered_at"] > kept["created_at"]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (("approve", None), ("approve", None), 200),
        (("yes", None), ("approve", None), 200),
        (("no", None), ("reject", None), 200),
        (("approve", {"amount": 1}), ("approve", {"amount": 1}), 200),
        (("approve", None), ("reject", None), 409),
        (("reject", None), ("approve", None), 409),
        (("approve", None), ("approve", {"amount": 1}), 409),
        (("approve", {"amount": 1}), ("approve", {"amount": 2}), 409),
    ],
)
async def test_the_same_answer_again_is_the_same_and_another_is_a_conflict(
    first: tuple[str, Any], second: tuple[str, Any], status: int, served: Served
) -> None:
    client, session_id, call_id = served.client, served.talk.session_id, served.asked["call_id"]
    one = await answer(client, session_id, call_id, first[0], input=first[1])
    early = await answer(client, session_id, call_id, second[0], input=second[1])
    await served.talk.end()
    late = await answer(client, session_id, call_id, second[0], input=second[1])
    assert [one.status_code, early.status_code, late.status_code] == [200, status, status]
    if status == 200:
        assert late.json()["approved"] == one.json()["approved"]
    else:
        refused_as(late, 409, "already_answered")


async def test_a_question_has_the_id_of_its_tool_call_too_within_its_session(served: Served) -> None:
    call_id = served.asked["call_id"]
    assert call_id == served.talk.datas("tool_call")[0]["call_id"]
    other = say(served.client, [["hi"]])
    await other.end()
    elsewhere = await answer(served.client, other.session_id, call_id, "approve")
    refused_as(elsewhere, 404, "not_found")
    inbox = f"/api/v1/approvals/{call_id}/respond"
    refused_as(await served.client.post(inbox, json={"answers": ["approve"]}), 404, "not_found")
    answered = await answer(served.client, served.talk.session_id, call_id, "approve")
    assert answered.json()["confirmation_id"] == served.asked["confirmation_id"]
    await served.talk.end()
    assert served.talk.datas("tool_result")[0]["output"] == "paid 5"


async def test_a_call_id_that_two_questions_share_answers_neither(served: Served) -> None:
    rename = "update confirmations set call_id = 'call_0'"
    other = say(served.client, [[["pay", {"amount": 9}]], ["ok"]])
    [second] = await other.until("confirmation")
    move = "update confirmations set session_id = ? where id = ?"  # as the question of a spawned agent would be
    session_id = served.talk.session_id
    await served.engine.db.write(lambda conn: conn.execute(rename).rowcount)
    await served.engine.db.write(lambda conn: conn.execute(move, (session_id, second["confirmation_id"])).rowcount)
    both = await answer(served.client, session_id, "call_0", "approve")
    refused_as(both, 409, "conflict")
    assert all(one["confirmation_id"] in both.json()["message"] for one in (served.asked, second))
    assert (await answer(served.client, session_id, second["confirmation_id"], "approve")).status_code == 200
    assert (await other.end())[-1] == "done"
    assert not served.talk.datas("tool_result")


async def test_the_question_of_another_session_is_not_there(served: Served) -> None:
    other = say(served.client, [["hi"]])
    await other.end()
    refused_as(await answer(served.client, other.session_id, served.asked["call_id"], "yes"), 404, "not_found")


async def test_the_session_of_another_is_not_there(served: Served) -> None:
    stranger = await token(served.client, "chat")
    body = {"call_id": served.asked["call_id"], "answers": ["approve"]}
    url = f"/api/v1/sessions/{served.talk.session_id}/respond"
    refused_as(await served.client.post(url, json=body, headers=stranger), 404, "not_found")
    own = Talk(
        served.client,
        "POST",
        "/api/v1/schemas/test/chat",
        json={"message": '[[["pay",{"amount":1}]],["ok"]]'},
        headers=stranger,
    )
    [asked] = await own.until("confirmation")
    body["call_id"] = asked["call_id"]
    answered = await served.client.post(f"/api/v1/sessions/{own.session_id}/respond", json=body, headers=stranger)
    assert answered.status_code == 200
    await own.end()
    assert own.datas("tool_result")[0]["output"] == "paid 1"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"answers": ["approve"]}, "$.call_id"),
        ({"call_id": "", "answers": ["approve"]}, "$.call_id"),
        ({"call_id": "conf_1", "answers": []}, "$.answers"),
        ({"call_id": "conf_1", "answers": ["yes", "why", "more"]}, "$.answers"),
        ({"call_id": "conf_1", "answers": [1]}, "$.answers[0]"),
        ({"call_id": "conf_1", "answers": ["yes"], "input": [1]}, "$.input"),
        ({"call_id": "conf_1", "answers": ["yes"], "force": True}, "$.force"),
    ],
)
async def test_an_answer_that_is_none_is_refused_with_its_place(
    body: dict[str, Any], path: str, served: Served
) -> None:
    refused = await served.client.post(f"/api/v1/sessions/{served.talk.session_id}/respond", json=body)
    assert refused.status_code == 400
    assert refused.json()["details"][0]["path"] == path


async def test_a_no_takes_no_arguments(served: Served) -> None:
    given = {"input": {"amount": 1}}
    refused = await answer(served.client, served.talk.session_id, served.asked["call_id"], "no", **given)
    refused_as(refused, 400, "invalid_request")
    assert [one["path"] for one in refused.json()["details"]] == ["$.input"]
    assert (await served.client.get("/api/v1/approvals")).json()["data"][0]["status"] == "pending"


# The inbox


async def test_the_inbox_shows_and_answers_questions_of_everybody(served: Served) -> None:
    approver = await token(served.client, "approvals")
    [waiting] = (await served.client.get("/api/v1/approvals", headers=approver)).json()["data"]
    assert (waiting["id"], waiting["input"], waiting["kind"]) == (
        served.asked["confirmation_id"],
        {"amount": 5},
        "confirm",
    )
    url = f"/api/v1/approvals/{waiting['id']}/respond"
    answered = await served.client.post(url, json={"answers": ["reject"], "reason": "not now"}, headers=approver)
    assert (answered.status_code, answered.json()["approved"]) == (200, False)
    await served.talk.end()
    assert served.talk.datas("tool_result")[0]["output"] == "A person refused this call: not now"
    assert (await served.client.get("/api/v1/approvals", headers=approver)).json() == {
        "data": [],
        "total": 0,
        "limit": 50,
        "offset": 0,
        "next": None,
    }
    [kept] = (await served.client.get("/api/v1/approvals?status=rejected", headers=approver)).json()["data"]
    assert (kept["id"], kept["reason"]) == (waiting["id"], "not now")


@pytest.mark.parametrize("scope", ["chat", "tasks", "agents:read"])
async def test_the_inbox_is_closed_without_its_scope(scope: str, served: Served) -> None:
    other = await token(served.client, scope)
    url = f"/api/v1/approvals/{served.asked['confirmation_id']}/respond"
    for refused in (
        await served.client.get("/api/v1/approvals", headers=other),
        await served.client.post(url, json={"answers": ["approve"]}, headers=other),
    ):
        refused_as(refused, 403, "forbidden")


async def test_a_token_for_some_schemas_sees_and_answers_questions_of_those_alone(served: Served) -> None:
    url = f"/api/v1/approvals/{served.asked['confirmation_id']}/respond"
    for schemas, seen, status in ((["other"], 0, 404), (["other", "test"], 1, 200)):
        scopes = {"name": str(seen), "scopes": ["approvals"], "schemas": schemas}
        made = (await served.client.post("/api/v1/auth/tokens", json=scopes)).json()
        bound = {"authorization": f"Bearer {made['token']}"}
        inbox = (await served.client.get("/api/v1/approvals", headers=bound)).json()["data"]
        answered = await served.client.post(url, json={"answers": ["approve"]}, headers=bound)
        assert (len(inbox), answered.status_code) == (seen, status)
    await served.talk.end()
    assert served.talk.datas("tool_result")[0]["output"] == "paid 5"


async def test_the_inbox_has_pages_oldest_first(served: Served) -> None:
    talks = [served.talk]
    for _ in range(4):
        talks.append(say(served.client, PAY))
        await talks[-1].until("confirmation")
    found: list[str] = []
    url, after = "/api/v1/approvals", ""
    while True:
        page = (await served.client.get(url, params={"limit": 2, "after": after})).json()
        assert len(page["data"]) <= 2
        found += [one["id"] for one in page["data"]]
        after = page["next"]
        if after is None:
            break
    assert found == [talk.datas("confirmation")[0]["confirmation_id"] for talk in talks]


async def test_a_question_is_behind_those_before_it_whatever_the_clock_says(served: Served) -> None:
    first = served.talk.datas("confirmation")[0]["confirmation_id"]
    await served.engine.db.write(lambda conn: conn.execute("update confirmations set created_at = '2099-01-01'"))
    later = say(served.client, PAY)
    await later.until("confirmation")
    page = (await served.client.get("/api/v1/approvals", params={"after": first})).json()
    assert [one["id"] for one in page["data"]] == [later.datas("confirmation")[0]["confirmation_id"]]
    refused_as(await served.client.get("/api/v1/approvals?after=conf_gone"), 404, "not_found")


async def test_a_status_that_is_none_is_refused(served: Served) -> None:
    refused = await served.client.get("/api/v1/approvals?status=open")
    refused_as(refused, 400, "invalid_request")
    assert refused.json()["details"][0]["path"] == "$.status"


async def test_a_deleted_session_takes_its_questions_along(served: Served) -> None:
    assert (await served.client.delete(f"/api/v1/sessions/{served.talk.session_id}")).status_code == 204
    gone = await served.client.post(
        f"/api/v1/approvals/{served.asked['confirmation_id']}/respond", json={"answers": ["approve"]}
    )
    refused_as(gone, 404, "not_found")


async def test_a_question_says_for_whom_it_is_and_what_its_arguments_may_be(served: Served) -> None:
    [listed] = (await served.client.get("/api/v1/approvals")).json()["data"]
    found = (await served.client.get(f"/api/v1/approvals/{served.asked['confirmation_id']}")).json()
    assert found == listed
    assert (found["schema"], found["agent_version"], found["turn"]) == ("test", 1, 1)
    assert found["last_user_message"]
    assert found["task_id"] is None
    assert found["input_schema"]["properties"]["amount"]["type"] == "integer"


async def test_a_question_can_be_read_once_it_is_answered(served: Served) -> None:
    asked = served.asked["confirmation_id"]
    await answer(served.client, served.talk.session_id, asked, "reject")
    await served.talk.end()
    found = (await served.client.get(f"/api/v1/approvals/{asked}")).json()
    assert (found["status"], found["verdict"]) == ("rejected", "reject")
    assert found["answered_by"].startswith("token:")


async def test_a_question_is_shown_only_to_who_may_answer_it(served: Served) -> None:
    path = f"/api/v1/approvals/{served.asked['confirmation_id']}"
    refused_as(await served.client.get("/api/v1/approvals/conf_none"), 404, "not_found")
    refused_as(await served.client.get(path, headers=await token(served.client, "chat")), 403, "forbidden")
    body = {"name": "bound", "scopes": ["approvals"], "schemas": ["other"]}
    await served.client.post("/api/v1/schemas", json={"name": "other", "entry_agent": "test"})
    bound = (await served.client.post("/api/v1/auth/tokens", json=body)).json()["token"]
    refused_as(await served.client.get(path, headers={"authorization": f"Bearer {bound}"}), 404, "not_found")
