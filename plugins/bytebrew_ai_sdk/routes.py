"""The routes that `useChat` calls, and two more: to stop a chat, and to read it when a page is loaded."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bytebrew import (
    CONVERSATIONS,
    ClientToolCalled,
    ConfirmationAsked,
    Conversations,
    Detail,
    EngineError,
    Face,
    FaceTurn,
    InvalidRequest,
    NewChat,
    Reply,
    Request,
    Route,
    Stream,
    TurnEvent,
    project,
)

from .chats import Chat, find, place
from .messages import ChatBody, Part, UIMessage, attachments, history, kept_parts
from .projection import DONE, UIMessageStream, frame
from .resumed import resumed, stored_events
from .transcript import Transcript, transcript

HEADERS = {"x-vercel-ai-ui-message-stream": "v1", "x-accel-buffering": "no"}
CHAT = "/ai-sdk/{schema}/chat"
_NOTHING_TO_GO_ON = "answer a call of a tool in the last message, or send a message of the user"


def refusal(error: EngineError) -> Reply:
    """An error before the stream, as text: `useChat` shows the whole body as the error's message."""
    details = "".join(f"\n{one.path}: {one.message}" for one in error.details if one.path not in error.message)
    text = f"{error.message}{details}"
    return Reply(body=text.encode(), status=error.status, headers={"content-type": "text/plain; charset=utf-8"})


def ending(error: EngineError) -> bytes:
    """The end of a stream that failed by itself."""
    return frame({"type": "error", "errorText": error.message}) + DONE


FACE = Face("AI SDK", refusal, ending)


async def post_chat(request: Request[ChatBody]) -> Stream:
    """Answers the user's last message, or goes on behind the answers in the assistant's."""
    chats, body = request.engine.state[CONVERSATIONS], request.body
    answered = next((one for one in body.all if one.id == body.message_id and one.role == "assistant"), body.all[-1])
    if answered.role == "assistant" and body.trigger == "submit-message":
        return await _go_on(chats, request, answered)
    schema = request.path["schema"]
    chat = await find(chats, request, schema, body.id)
    if body.all[-1].role != "user":
        path = f"$.messages[{len(body.all) - 1}].role"
        raise InvalidRequest(f"{path}: the last message is one of the user", details=[Detail(path, "Expected user")])
    to = await place(chats, request, chat, body)
    if to.same is not None:
        turn = to.same
        request.free_place()
    else:
        ended = chat.newest is None or chat.newest.last is not None
        repeats = request.key is not None and request.key.turn_id is not None
        if to.fork and not ended and chat.newest is not None and not repeats:
            await chats.cancel(request, chat.newest.session_id)
        turn = await chats.begin(request, _new(schema, chat, body, to.before, fork=to.fork))
        if not repeats:
            return _stream(turn, project(turn, UIMessageStream(turn)))
    stored = await stored_events(turn)
    return _stream(turn, resumed(turn, stored, UIMessageStream(turn, answered=_client_calls(stored))))


def _new(schema: str, chat: Chat, body: ChatBody, before: FaceTurn | None, *, fork: bool) -> NewChat:
    *earlier, message = body.all
    path = f"$.messages[{len(earlier)}]"
    fork_after = before.last if before is not None and fork else None
    session_id = before.session_id if before is not None else None if chat.newest is not None else chat.first_session
    begins = before is None and chat.newest is None
    return NewChat(
        schema=schema,
        message="" if message.form is not None else message.text,
        form=message.form,
        attachments=attachments(message, path),
        session_id=session_id,
        fork_after=fork_after,
        history=history([one for one in earlier if one.role != "system"]) if begins else (),
        instructions=body.instructions,
        on_busy="interrupt",
        client_tools=body.client_tools,
        key=chat.key,
        kept={"message": message.id, "parts": kept_parts(message), "before": before.id if before else None},
    )


async def _go_on(chats: Conversations, request: Request[ChatBody], message: UIMessage) -> Stream:
    """Takes the results and answers in a message of the assistant; the turn's next response."""
    request.free_place()  # the turn is counted already
    turn = await chats.turn(request, message.id)
    stored = await stored_events(turn)
    waiting = await _waiting(chats, request, turn)
    client_calls, questions = _client_calls(stored), _questions(stored)
    answers: set[str] = set()
    for part in message.parts:
        if part.tool_call_id in client_calls and part.state in ("output-available", "output-error"):
            answers.add(part.tool_call_id)
            if part.tool_call_id in waiting:
                has_error = part.state == "output-error"
                await chats.finish_call(request, turn.session_id, part.tool_call_id, _result(part), has_error=has_error)
        elif part.approval is not None and part.state == "approval-responded" and part.approval.id in questions:
            answers.add(part.approval.id)
            if part.approval.id in waiting:
                await chats.answer(
                    request,
                    turn.session_id,
                    part.approval.id,
                    approve=part.approval.approved is True,
                    reason=part.approval.reason or "",
                )
    if not answers:
        n = request.body.all.index(message)
        detail = Detail(f"$.messages[{n}].parts", _NOTHING_TO_GO_ON)
        raise InvalidRequest(f"The turn of this message waits for nothing in it: {_NOTHING_TO_GO_ON}", details=[detail])
    stream = UIMessageStream(turn, answers=answers, answered=client_calls - waiting)
    return _stream(turn, resumed(turn, stored, stream))


def _result(part: Part) -> str:
    """The result of a tool as the model reads it: a text as it is, any other value as JSON."""
    if part.state == "output-error":
        return part.error_text or "The tool failed"
    return part.output if isinstance(part.output, str) else msgspec.json.encode(part.output).decode()


async def get_stream(request: Request[None]) -> Stream | Reply:
    """The turn that a chat runs, from its first event; 204 if it runs none."""
    chats = request.engine.state[CONVERSATIONS]
    turn = (await find(chats, request, request.path["schema"], request.path["id"])).newest
    if turn is None or turn.last is not None:
        return Reply(status=204)
    stored = await stored_events(turn)
    waiting = await _waiting(chats, request, turn)
    last = stored[-1].number if stored else 0
    answered = _client_calls(stored) - waiting
    stream = UIMessageStream(turn, answered=answered, until=last if waiting else last + 1)
    return _stream(turn, resumed(turn, stored, stream))


async def stop(request: Request[None]) -> None:
    """Cancels the turn that a chat runs; a body is not read."""
    chats = request.engine.state[CONVERSATIONS]
    turn = (await find(chats, request, request.path["schema"], request.path["id"])).newest
    if turn is not None and turn.last is None:
        await chats.cancel(request, turn.session_id)


async def get_messages(request: Request[None]) -> Transcript:
    """The messages of a chat, for the start of a page; without the answer of a turn that runs."""
    chats = request.engine.state[CONVERSATIONS]
    chat = await find(chats, request, request.path["schema"], request.path["id"])
    return await transcript(chats, request, chat.newest)


async def _waiting(chats: Conversations, request: Request[Any], turn: FaceTurn) -> set[str]:
    """The calls of client tools and the questions of a session that wait."""
    open_calls = await chats.open_calls(request, turn.session_id)
    return {one.call_id if one.kind == "client_tool" else one.confirmation_id for one in open_calls}


def _client_calls(stored: Sequence[TurnEvent]) -> set[str]:
    return {one.event.call_id for one in stored if isinstance(one.event, ClientToolCalled)}


def _questions(stored: Sequence[TurnEvent]) -> set[str]:
    return {one.event.confirmation_id for one in stored if isinstance(one.event, ConfirmationAsked)}


def _stream(turn: FaceTurn, frames: Any) -> Stream:
    return Stream(frames=frames, headers={**HEADERS, "x-session-id": turn.session_id, "x-turn-id": turn.id})


ROUTES = (
    Route(
        "POST",
        CHAT,
        "chat",
        post_chat,
        "Chat by useChat",
        body=ChatBody,
        example={
            "id": "chat-1",
            "messages": [{"id": "m-1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
        },
        upload=True,
        streams=True,
        idempotent=True,
        begins_turn=True,
        face=FACE,
    ),
    Route(
        "GET",
        f"{CHAT}/{{id}}/stream",
        "chat",
        get_stream,
        "Resume the answer of a chat",
        streams=True,
        face=FACE,
        also={204: None},
    ),
    Route(
        "POST",
        f"{CHAT}/{{id}}/stop",
        "chat",
        stop,
        "Stop the answer of a chat",
        status=204,
        face=FACE,
    ),
    Route(
        "GET",
        f"{CHAT}/{{id}}",
        "chat",
        get_messages,
        "Read the messages of a chat",
        answer=Transcript,
        face=FACE,
    ),
)
