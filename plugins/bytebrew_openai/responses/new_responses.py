"""Where the input of a new response goes: to a session that begins, behind a response, or to a turn that waits."""

from collections.abc import Iterable
from dataclasses import replace as with_fields
from typing import NamedTuple

from msgspec import to_builtins

from bytebrew import Conflict, Conversations, EarlierTurn, FaceTurn, InvalidRequest, Message, NewChat, NotFound, Request

from ..models import schema_of_model
from . import stored_responses
from .input_items import Input, read_input
from .known_history import keys, place
from .projection import ResponseProjection
from .request import NewResponse, check, declared, function_tools, invalid, renamed, repeated, response_format
from .response import Kept, ResponseId, turn_of_item
from .stored_responses import folded, responses_of

_OPENING = "The conversation begins with what you have said:\n"


class _Place(NamedTuple):
    """The session of a message and its newest turn, or where its fork begins, or the history that it begins with."""

    session_id: str | None = None
    behind: str = ""
    fork_after: int | None = None
    history: tuple[EarlierTurn, ...] = ()
    key: str = ""


async def begin(chats: Conversations, request: Request[NewResponse]) -> tuple[FaceTurn, ResponseId]:
    """Begins the response of a request; its turn, which has begun or goes on."""
    body = request.body
    check(body)
    items = body.input
    if not isinstance(items, str):
        items = await stored_responses.with_references(chats, request, items)
    parsed = read_input(items)
    if body.previous_response_id:
        turn, made = await _previous(chats, request, body.previous_response_id)
        if body.model not in ("", turn.schema):
            raise invalid("$.model", f"the previous response is of model '{turn.schema}', which goes on with it")
        if parsed.outputs or parsed.approvals:
            return await _go_on(chats, request, turn, made, parsed)
        repeats = request.key is not None and request.key.turn_id is not None  # then its place is known
        where = _Place() if repeats else await _behind(chats, request, turn, made)
        return await _begin(chats, request, parsed, turn.schema, where)
    if not body.model:
        raise invalid("$.model", "name a schema")
    turns, _ = parsed.turns()
    if turns and (turns[-1].answers or parsed.approvals):
        return await _go_on(chats, request, *await _waiting(chats, request, turns, parsed), parsed)
    try:
        found = await place(chats, request, body.model, turns[:-1], user_sub=_user(request))
        key = keys(turns)[-1] if turns else ""
        where = _at(found.after) if found.after else _Place(history=found.history)
        return await _begin(chats, request, parsed, body.model, where._replace(key=key))
    except NotFound:
        await schema_of_model(request, body.model)
        raise


async def _begin(
    chats: Conversations, request: Request[NewResponse], parsed: Input, schema: str, where: _Place
) -> tuple[FaceTurn, ResponseId]:
    body = request.body
    message = _message(parsed, bool(body.previous_response_id))
    _, opening = parsed.turns()
    tools = function_tools(body)
    before = [_OPENING + "\n\n".join(opening)] if opening else []
    kept = Kept(
        repeated=repeated(body, tools, body.previous_response_id),
        input=parsed.items if where.session_id is None else parsed.new_items(),
        begins=where.session_id is None or where.fork_after is not None,
    )
    new = NewChat(
        schema=schema,
        message=message.content,
        attachments=message.attachments,
        session_id=where.session_id,
        behind=where.behind,
        fork_after=where.fork_after,
        history=where.history,
        instructions="\n\n".join(filter(None, (body.instructions, *parsed.instructions, *before))),
        user_sub=_user(request) if where.session_id is None else "",
        response_format=response_format(body),
        client_tools=declared(body, tools),
        key=where.key,
        kept=to_builtins(kept),
    )
    try:
        turn = await chats.begin(request, new)
    except InvalidRequest as error:
        raise renamed(error) from error
    return turn, ResponseId(turn.id)


def _message(parsed: Input, continues: bool) -> Message:
    turns, opening = parsed.turns()
    if not turns or turns[-1].answers:
        raise invalid("$.input", "Expected a message of the user at its end")
    if continues and (len(turns) > 1 or opening):
        raise invalid("$.input", "with previous_response_id send new messages of the user alone")
    if not turns[-1].message.content:
        raise invalid("$.input", "Expected a message with text")
    return turns[-1].message


def _user(request: Request[NewResponse]) -> str:
    """The end user for whom a token speaks; anybody else speaks for nobody but themselves."""
    return (request.body.safety_identifier or request.body.user or "") if request.actor.kind == "token" else ""


async def _previous(
    chats: Conversations, request: Request[NewResponse], text: str
) -> tuple[FaceTurn, ResponseProjection]:
    try:
        turn, response_id = await stored_responses.get(chats, request, text)
        return turn, await folded(turn, response_id)
    except NotFound as error:
        message = f"Previous response with id '{text[:255]}' not found."
        raise invalid("$.previous_response_id", message, "previous_response_not_found") from error


def _at(turn: FaceTurn) -> _Place:
    if turn.newest:
        return _Place(session_id=turn.session_id, behind=turn.id)
    if turn.last is None:
        raise Conflict("The previous response has not ended, and another one waits behind it already")
    return _Place(session_id=turn.session_id, fork_after=turn.last)


async def _behind(
    chats: Conversations, request: Request[NewResponse], turn: FaceTurn, made: ResponseProjection
) -> _Place:
    """The place behind a response; InvalidRequest if that waits for something else than a message."""
    if made.behind and turn.last is None:
        await _check_answered(chats, request, turn, made.questions)
    return _at(turn)


async def _check_answered(
    chats: Conversations, request: Request[NewResponse], turn: FaceTurn, questions: Iterable[str]
) -> None:
    waiting = {
        one for call in await chats.open_calls(request, turn.session_id) for one in (call.call_id, call.confirmation_id)
    }
    for one in questions:
        if one in waiting:
            raise invalid("$.input", f"No tool output found for function call {one}.")


async def _waiting(
    chats: Conversations, request: Request[NewResponse], turns: list[EarlierTurn], parsed: Input
) -> tuple[FaceTurn, ResponseProjection]:
    """The response that was given to the history of the input, and has asked for what the input answers."""
    answered = _answered(parsed)
    found: list[tuple[FaceTurn, ResponseProjection]] = []
    named = {turn_id for item in parsed.items if (turn_id := turn_of_item(str(item["id"])))}
    for turn in await chats.find(request, request.body.model, keys(turns)[-1:], user_sub=_user(request)):
        asked = [made for made in await responses_of(turn) if answered & {*made.questions}]
        if asked and (not named or turn.id in named):
            found.append((turn, asked[-1]))
    if not found:
        message = "No response of this conversation waits for these results; end with a message of the user"
        raise invalid("$.input", message)
    if len(found) > 1:
        raise Conflict("Several conversations wait for such results: send them with previous_response_id")
    return found[0]


def _answered(parsed: Input) -> set[str]:
    return {*parsed.outputs, *(one.approval_request_id for one in parsed.approvals)}


async def _go_on(
    chats: Conversations, request: Request[NewResponse], turn: FaceTurn, made: ResponseProjection, parsed: Input
) -> tuple[FaceTurn, ResponseId]:
    """Takes answers to what a response has asked; returns the next response of its turn."""
    answered, questions = _answered(parsed), {*made.questions}
    if request.body.previous_response_id and (unknown := answered - questions):
        raise invalid("$.input", f"No tool call found for function call output with call_id {min(unknown)}.")
    if not made.behind:
        raise Conflict("The previous response has not ended: send results once it has")
    await _check_answered(chats, request, turn, questions - answered)
    messages = [one for one in parsed.messages if one.role == "user"]
    if request.body.previous_response_id and messages and (request.key is None or request.key.turn_id is None):
        steering = NewChat(
            schema=turn.schema,
            message=_message(Input(messages, [], {}, [], []), continues=True).content,
            session_id=turn.session_id,
            on_busy="steer",
        )
        if turn.last is not None:  # refused with the results, if these come too late
            await _finish(chats, with_fields(request, key=None), turn, questions, parsed)
        await chats.begin(request, steering)
        request = with_fields(request, key=None)  # which is the message's now; results may come again
    request.free_place()  # the turn that goes on is counted already
    await _finish(chats, request, turn, questions, parsed)
    return await chats.turn(request, turn.id), ResponseId(turn.id, made.behind)


async def _finish(
    chats: Conversations, request: Request[NewResponse], turn: FaceTurn, questions: set[str], parsed: Input
) -> None:
    for call_id in parsed.outputs.keys() & questions:
        await chats.finish_call(request, turn.session_id, call_id, parsed.outputs[call_id])
    for one in parsed.approvals:
        if one.approval_request_id in questions:
            await chats.answer(
                request, turn.session_id, one.approval_request_id, approve=one.approve, reason=one.reason or ""
            )
