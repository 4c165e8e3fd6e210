"""Approvals: the questions that wait for a person, and their answers."""

from functools import partial
from typing import Annotated, Any, get_args

from msgspec import Meta, Struct

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.contract.connection import Connection
from bytebrew.contract.lists import OFFSET, Page, page_window
from bytebrew.contract.route import Parameter, Request, Route, choice
from bytebrew.conversation.tools.confirmations import Confirmations
from bytebrew.engine import Engine
from bytebrew.store import confirmations, sessions
from bytebrew.store.confirmations import Confirmation, Status
from bytebrew.store.sqlite.database import Database

Answers = Annotated[tuple[Annotated[str, Meta(max_length=10_000)], ...], Meta(min_length=1, max_length=2)]


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer: a word, such as approve or reject, and a reason behind it or in its own field.

    `input` are arguments that take the place of those that were asked about; a text in them that was left as it was
    shown stays as it is. `args_digest` is that of the question as it was shown: where there is another, nothing is
    approved. To a question of kind unknown_outcome the words are retry, mark_done and fail.
    """

    answers: Answers
    args_digest: Annotated[str, Meta(max_length=255)] = ""
    input: dict[str, Any] | None = None
    reason: Annotated[str, Meta(max_length=10_000)] = ""


class SessionAnswer(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer within a session to the question `confirmation_id`, or to the one about the tool call `call_id`.

    `call_id` may be the question's id too. Where both are there they name one question.
    """

    confirmation_id: Annotated[str, Meta(max_length=255)] = ""
    call_id: Annotated[str, Meta(max_length=255)] = ""

    def keys(self) -> tuple[str, ...]:
        """The ids that identify the question, if any."""
        return tuple(key for key in (self.confirmation_id, self.call_id) if key)


class Answered(Struct, frozen=True, kw_only=True):
    """What an answer was taken for: the question, and the tool call that it is about."""

    confirmation_id: str
    call_id: str
    approved: bool
    confirmation: Confirmation
    status: str = "ok"


class Inbox(Page[Confirmation], frozen=True, kw_only=True):
    """A page of questions, oldest first."""


async def respond(db: Database, questions: Confirmations, request: Request[SessionAnswer]) -> Answered:
    """Answers a question of a session."""
    session_id, body = request.path["id"], request.body
    owner = await db.read(sessions.owner, session_id)
    sessions.check_owner(request.actor, owner, session_id)
    if not (keys := body.keys()):
        details = [Detail("$.call_id", "name the question by confirmation_id, or its tool call by call_id")]
        raise InvalidRequest("The answer does not say to which question", details=details)
    return await answer_question(questions, request, keys, body, session_id)


async def answer_approval(questions: Confirmations, request: Request[Answer]) -> Answered:
    """Answers a question from the inbox."""
    return await answer_question(questions, request, (request.path["id"],), request.body, None)


async def answer_question(
    questions: Confirmations, request: Request[Any], keys: tuple[str, ...], body: Answer, session_id: str | None
) -> Answered:
    """Answers a question by its id, or within a session by that of its tool call; all `keys` must identify it."""

    def record(conn: Connection, confirmation: Confirmation) -> None:
        request.record(conn, _answered(confirmation))

    return _answered(
        await questions.answer(
            request.actor,
            keys,
            body.answers,
            session_id=session_id,
            input=body.input,
            reason=body.reason,
            digest=body.args_digest,
            record=record,
        )
    )


def _answered(confirmation: Confirmation) -> Answered:
    approved = confirmation.status in ("approved", "spent")
    return Answered(
        confirmation_id=confirmation.id,
        call_id=confirmation.call_id,
        approved=approved,
        confirmation=confirmations.shown(confirmation),
    )


async def list_approvals(db: Database, request: Request[None]) -> Inbox:
    """Questions of a `status` (pending unless it says otherwise), at most `limit`, from the one `after` an id.

    A token that is bound to schemas sees those of their sessions.
    """
    query, actor = request.query, request.actor
    status = choice(query, "status", get_args(Status), "pending")
    limit, offset = page_window(query, 50, 200)
    after = query.get("after", "")
    scan = db.scan
    found, more = await scan(confirmations.page, status, after, limit, actor.schemas, 0 if after else offset)
    total = await scan(confirmations.count, status, actor.schemas)
    return Inbox(data=[*map(confirmations.shown, found)], total=total, limit=limit, offset=offset, next=more)


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "POST",
            "/api/v1/sessions/{id}/respond",
            "chat",
            partial(respond, engine.db, engine.confirmations),
            "Answer a question of a session",
            body=SessionAnswer,
            example={"confirmation_id": "conf_019aa1b2c3d4e5f6a7b8c9d0", "answers": ["approve"]},
            answer=Answered,
            idempotent=True,
            also={410: None},
        ),
        Route(
            "GET",
            "/api/v1/approvals",
            "approvals",
            partial(list_approvals, engine.db),
            "List questions",
            query={
                "status": Parameter("in this state; pending unless told", Status),
                "limit": Parameter("rows, 200 at most, and a megabyte", int | str),
                "offset": OFFSET,
                "after": "the last id before",
            },
            answer=Inbox,
            also={404: None},
        ),
        Route(
            "POST",
            "/api/v1/approvals/{id}/respond",
            "approvals",
            partial(answer_approval, engine.confirmations),
            "Answer a question",
            body=Answer,
            example={"answers": ["reject"], "reason": "The amount is wrong"},
            answer=Answered,
            idempotent=True,
            also={410: None},
        ),
    )
