"""Approvals: the questions that wait for a person, and their answers."""

from functools import partial
from typing import Annotated, Any, get_args

from msgspec import UNSET, Meta, Struct, UnsetType, json

from bytebrew.base.errors import Detail, Forbidden, InvalidRequest
from bytebrew.contract.connection import Connection
from bytebrew.contract.lists import OFFSET, Page, page_window
from bytebrew.contract.route import Parameter, Request, Route, choice
from bytebrew.conversation.tools.confirmations import Confirmations
from bytebrew.engine import Engine
from bytebrew.store import confirmations, sessions
from bytebrew.store.confirmations import Confirmation, ConfirmationDetail, Status
from bytebrew.store.database.database import Database

Answers = Annotated[tuple[Annotated[str, Meta(max_length=10_000)], ...], Meta(min_length=1, max_length=2)]


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer: a word, such as approve or reject, and a reason behind it or in its own field.

    `input` are arguments that take the place of those that were asked about; a text in them that was left as it was
    shown stays as it is. `args_digest` is that of the question as it was shown: where there is another, nothing is
    approved. To a question of kind unknown_outcome the words are retry, mark_done and fail.

    To an elicitation they are approve, reject and cancel, and `input` is the content of the answer, by `input_schema`.
    """

    answers: Answers
    args_digest: Annotated[str, Meta(max_length=255)] = ""
    input: dict[str, Any] | None = None
    reason: Annotated[str, Meta(max_length=10_000)] = ""


class TaskAnswer(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer to the question `confirmation_id`, or to the one about the tool call `call_id`.

    `call_id` may be the question's id too. Where both are there they name one question.
    """

    confirmation_id: Annotated[str, Meta(max_length=255)] = ""
    call_id: Annotated[str, Meta(max_length=255)] = ""

    def keys(self) -> tuple[str, ...]:
        """The ids that identify the question, if any."""
        return tuple(key for key in (self.confirmation_id, self.call_id) if key)


class SessionAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer within a session to the question `confirmation_id`, or to the one about the tool call `call_id`.

    `call_id` may be the question's id too. Where both are there they name one question. To a question it is as the
    answer to an approval. To a call of a tool that the client runs it is the `result`, a text or any JSON, with
    `is_error` where the tool failed; it has no `answers` then.
    """

    confirmation_id: Annotated[str, Meta(max_length=255)] = ""
    call_id: Annotated[str, Meta(max_length=255)] = ""
    answers: Answers | UnsetType = UNSET
    args_digest: Annotated[str, Meta(max_length=255)] = ""
    input: dict[str, Any] | None = None
    reason: Annotated[str, Meta(max_length=10_000)] = ""
    result: Any = UNSET
    is_error: bool = False

    def approval(self) -> TaskAnswer:
        """The answer to a person's question; InvalidRequest if it is none."""
        if self.answers is UNSET:
            message = "send answers, such as approve or reject, or the result of a tool that the client runs"
            raise InvalidRequest(f"$.answers: {message}", details=[Detail("$.answers", message)])
        return TaskAnswer(
            answers=self.answers,
            args_digest=self.args_digest,
            input=self.input,
            reason=self.reason,
            confirmation_id=self.confirmation_id,
            call_id=self.call_id,
        )

    def outcome(self) -> str:
        """The result as the model reads it; InvalidRequest if there are parts of an approval too."""
        for name in ("answers", "args_digest", "input", "reason"):
            if getattr(self, name) not in (UNSET, "", None):
                message = "a result comes without the parts of an approval"
                raise InvalidRequest(f"$.{name}: {message}", details=[Detail(f"$.{name}", message)])
        return self.result if isinstance(self.result, str) else json.encode(self.result).decode()


class Answered(Struct, frozen=True, kw_only=True):
    """What an answer was taken for: the question, and the tool call that it is about.

    `approved` and `confirmation` are there for a question to a person, `is_error` for a result of the client's tool.
    """

    confirmation_id: str
    call_id: str
    approved: bool | UnsetType = UNSET
    confirmation: Confirmation | UnsetType = UNSET
    is_error: bool | UnsetType = UNSET
    status: str = "ok"


class Inbox(Page[ConfirmationDetail], frozen=True, kw_only=True):
    """A page of questions, oldest first."""


async def respond(db: Database, questions: Confirmations, request: Request[SessionAnswer]) -> Answered:
    """Answers a question of a session, or sends the result of a tool that the client runs."""
    session_id, body = request.path["id"], request.body
    owner = await db.read(sessions.owner, session_id)
    sessions.check_owner(request.actor, owner, session_id)
    if not (keys := tuple(key for key in (body.confirmation_id, body.call_id) if key)):
        details = [Detail("$.call_id", "name the question by confirmation_id, or its tool call by call_id")]
        raise InvalidRequest("The answer does not say to which question", details=details)
    if body.result is UNSET:
        if request.actor.view == "public":
            raise Forbidden("A question to a person is for whoever sees the call: it waits in GET /api/v1/approvals")
        return await answer_question(questions, request, keys, body.approval(), session_id)

    def record(conn: Connection, question: Confirmation) -> None:
        request.record(conn, _taken(question))

    return _taken(
        await questions.finish_call(
            request.actor, keys, session_id, body.outcome(), has_error=body.is_error, record=record
        )
    )


def _taken(call: Confirmation) -> Answered:
    return Answered(confirmation_id=call.id, call_id=call.call_id, is_error=call.verdict == "fail")


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


async def get_approval(db: Database, request: Request[None]) -> ConfirmationDetail:
    """One question, whatever became of it; a token that is bound to schemas sees those of their sessions."""
    question = await db.read(confirmations.find_question, request.path["id"], request.actor.schemas)
    return confirmations.shown(question)


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
            "GET",
            "/api/v1/approvals/{id}",
            "approvals",
            partial(get_approval, engine.db),
            "Get a question",
            answer=ConfirmationDetail,
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
