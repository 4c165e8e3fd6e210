"""Turns as tasks, whose ids are those of turns: the extension of 2026-07-28, and what 2025-11-25 has of them."""

from contextlib import aclosing
from typing import Any

from bytebrew import CONVERSATIONS, Done, FaceTurn, NotFound, Request, now

from .calls import answer_questions, cancel
from .messages import INVALID_PARAMS, Message, RpcError
from .outcome import Outcome, elicitation, question_text, tool_result
from .revisions import Client

POLL_MS = 1000


async def task_turn(request: Request[Message], client: Client) -> FaceTurn:
    """The turn that `taskId` names; RpcError if there is none, or the client has not declared tasks."""
    client.check_tasks()
    try:
        return await request.engine.state[CONVERSATIONS].turn(request, request.body.text("taskId"))
    except NotFound as error:
        raise RpcError(INVALID_PARAMS, f"Unknown task: {error.message}") from error


async def task(request: Request[Any], turn: FaceTurn, client: Client, *, seed: bool = False) -> dict[str, Any]:
    """A turn as a task; as the `seed` of one it has neither questions nor a result."""
    outcome, status, more = Outcome(), "working", dict[str, Any]()
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                more["statusMessage"] = outcome.take(one) or more.get("statusMessage", "")
    if isinstance(outcome.end, Done) and outcome.end.status == "cancelled":
        status, more = "cancelled", {"statusMessage": "Cancelled"}
    elif outcome.end is not None:
        status, more = "completed", {"result": client.result(tool_result(turn, outcome, client))}
    elif outcome.waits:
        calls = await request.engine.state[CONVERSATIONS].open_calls(request, turn.session_id)
        open_now = {one.confirmation_id for one in calls}
        waiting = {id: one for id, one in outcome.questions.items() if id in open_now}
        if waiting and client.elicits and request.actor.view != "public":
            status = "input_required"
            more = {"inputRequests": {id: elicitation(one) for id, one in waiting.items()}}
        elif waiting:
            texts = "; ".join(question_text(one) for one in waiting.values() if one.tool)
            more = {"statusMessage": f"Waits for a person, in the inbox GET /api/v1/approvals. {texts}".strip()}
    if outcome.end is not None and turn.ended_at is None:  # it has ended while it was read
        turn = await request.engine.state[CONVERSATIONS].turn(request, turn.id)
    if seed or not client.is_modern:
        more = {name: value for name, value in more.items() if name == "statusMessage"}
    if not more.get("statusMessage"):
        more.pop("statusMessage", None)
    suffix = "Ms" if client.is_modern else ""
    return {
        "taskId": turn.id,
        "status": status,
        "createdAt": turn.created_at,
        "lastUpdatedAt": turn.ended_at or now(),
        f"ttl{suffix}": None,
        f"pollInterval{suffix}": POLL_MS,
        **more,
    }


async def get_task(request: Request[Message], client: Client) -> dict[str, Any]:
    """The result of tasks/get."""
    return client.result(await task(request, await task_turn(request, client), client))


async def update_task(request: Request[Message], client: Client) -> dict[str, Any]:
    """The result of tasks/update, which answers questions; answers to others are passed over."""
    turn = await task_turn(request, client)
    await answer_questions(request, turn, request.body.fields("inputResponses"))
    return client.result({})


async def cancel_task(request: Request[Message], client: Client) -> dict[str, Any]:
    """The result of tasks/cancel: nothing, or before 2026-07-28 the task, which must not have ended then."""
    turn = await task_turn(request, client)
    if client.is_modern:
        await cancel(request, turn)
        return client.result({})
    if turn.last is not None:
        raise RpcError(INVALID_PARAMS, "The task has ended")
    await cancel(request, turn)
    return await task(request, await task_turn(request, client), client)
