"""The requests that are no chats, as flows: sessions, approvals and tasks."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from bytebrew_client.flow import Flow, Request, call, path
from bytebrew_client.records import (
    Answered,
    Approval,
    Page,
    Session,
    SessionDetail,
    SessionMessage,
    Task,
    TurnState,
    record,
)
from bytebrew_client.turn import JSON, encoded

T = TypeVar("T")


class Calls:
    """Requests that are sent again for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def _get(self, where: str, **query: Any) -> Flow[Any]:
        wanted = {name: str(value) for name, value in query.items() if value not in ("", None)}
        reply = yield from call(Request("GET", where, query=wanted), self._seconds)
        return json.loads(reply.content)

    def _post(self, where: str, body: Any) -> Flow[Any]:
        headers = {**JSON, "idempotency-key": str(uuid.uuid4())}
        reply = yield from call(Request("POST", where, encoded(body), headers), self._seconds)
        return json.loads(reply.content)

    def _page(self, kind: type[T], where: str, **query: Any) -> Flow[Page[T]]:
        body = yield from self._get(where, **query)
        rows = tuple(record(kind, one) for one in body["data"])
        return Page(data=rows, **{name: body.get(name) for name in ("total", "limit", "offset", "next")})


class SessionCalls(Calls):
    """Conversations."""

    def list(
        self,
        *,
        limit: int = 20,
        after: str = "",
        schema: str = "",
        agent: str = "",
        status: str = "",
        user_sub: str = "",
    ) -> Flow[Page[Session]]:
        """The caller's sessions, newest first; an admin's token sees all. `after` is the `next` of the page before."""
        query = {"limit": limit, "after": after, "schema": schema, "agent": agent}
        return (yield from self._page(Session, "sessions", **query, status=status, user_sub=user_sub))

    def get(self, session_id: str) -> Flow[SessionDetail]:
        """A session with its newest messages."""
        return record(SessionDetail, (yield from self._get(path("sessions", session_id))))

    def messages(self, session_id: str, *, after: int = 0, limit: int = 100) -> Flow[Page[SessionMessage]]:
        """Messages of a session, oldest first, behind the message number `after`."""
        where = path("sessions", session_id, "messages")
        return (yield from self._page(SessionMessage, where, offset=after, limit=limit))

    def rename(self, session_id: str, title: str) -> Flow[Session]:
        """The session under another title."""
        request = Request("PATCH", path("sessions", session_id), encoded({"title": title}), JSON)
        return record(Session, json.loads((yield from call(request, self._seconds)).content))

    def delete(self, session_id: str) -> Flow[None]:
        """Cancels what runs in a session and removes it with all that belongs to it."""
        yield from call(Request("DELETE", path("sessions", session_id)), self._seconds)

    def fork(self, session_id: str, *, after: int | None = None) -> Flow[Session]:
        """A session with the same history, up to the event `after`, which ends a turn, or to the last turn's end."""
        body = {"after": after} if after is not None else {}
        return record(Session, (yield from self._post(path("sessions", session_id, "fork"), body)))

    def cancel(self, session_id: str) -> Flow[None]:
        """Stops the turn that runs in a session.

        It is not sent again where the engine may have it, so that it stops no later turn: it raises ConnectionLost.
        """
        yield from call(Request("POST", path("sessions", session_id, "cancel")), self._seconds, repeatable=False)

    def turn(self, session_id: str, turn_id: str) -> Flow[TurnState]:
        """A turn as it is now."""
        return record(TurnState, (yield from self._get(path("sessions", session_id, "turns", turn_id))))


class ApprovalCalls(Calls):
    """The inbox of questions to a person; its token has the scope `approvals`."""

    def list(self, *, status: str = "", limit: int = 50, after: str = "") -> Flow[Page[Approval]]:
        """Questions, oldest first: those that are pending, or those of another status."""
        return (yield from self._page(Approval, "approvals", status=status, limit=limit, after=after))

    def answer(
        self, question: Approval, answer: str, *, input: Mapping[str, Any] | None = None, reason: str = ""
    ) -> Flow[Answered]:
        """Answers with a word: approve or reject, or where the kind is unknown_outcome retry, mark_done or fail."""
        body: dict[str, Any] = {"answers": [answer], "args_digest": question.args_digest, "reason": reason}
        if input is not None:
            body["input"] = input
        return record(Answered, (yield from self._post(path("approvals", question.id, "respond"), body)))

    def approve(
        self, question: Approval, *, input: Mapping[str, Any] | None = None, reason: str = ""
    ) -> Flow[Answered]:
        """Lets the call run, with `input` in place of its arguments if there is any."""
        return (yield from self.answer(question, "approve", input=input, reason=reason))

    def reject(self, question: Approval, *, reason: str = "") -> Flow[Answered]:
        """Lets the call not run; the model reads the reason."""
        return (yield from self.answer(question, "reject", reason=reason))


class TaskCalls(Calls):
    """Work in the background; the token has the scope `tasks`."""

    def create(
        self,
        agent: str,
        title: str,
        *,
        description: str = "",
        schema: str = "",
        mode: str = "background",
        priority: int = 0,
        acceptance_criteria: Sequence[str] = (),
        blocked_by: Sequence[str] = (),
        parent_task_id: str | None = None,
        require_approval: bool = False,
        callback_url: str = "",
    ) -> Flow[Task]:
        """A new task, which is made once, however often the request has to be sent."""
        body = {
            "agent": agent,
            "title": title,
            "description": description,
            "schema": schema,
            "mode": mode,
            "priority": priority,
            "acceptance_criteria": [*acceptance_criteria],
            "blocked_by": [*blocked_by],
            "parent_task_id": parent_task_id,
            "require_approval": require_approval,
            "callback_url": callback_url,
        }
        return record(Task, (yield from self._post("tasks", body)))

    def list(
        self, *, limit: int = 100, after: str = "", status: str = "", agent: str = "", session_id: str = ""
    ) -> Flow[Page[Task]]:
        """Tasks, newest first."""
        query = {"limit": limit, "after": after, "status": status, "agent": agent, "session_id": session_id}
        return (yield from self._page(Task, "tasks", **query))

    def get(self, task_id: str) -> Flow[Task]:
        """A task."""
        return record(Task, (yield from self._get(path("tasks", task_id))))

    def approve(self, task: Task) -> Flow[Task]:
        """Lets a draft be worked on, as the record shows it; Conflict if it has changed since."""
        request = Request("POST", path("tasks", task.id, "approve"), encoded({"digest": task.digest}), JSON)
        return record(Task, json.loads((yield from call(request, self._seconds)).content))

    def cancel(self, task_id: str, *, reason: str = "") -> Flow[None]:
        """Cancels a task and all below it."""
        request = Request("DELETE", path("tasks", task_id), encoded({"reason": reason}), JSON)
        yield from call(request, self._seconds)

    def answer(
        self,
        task_id: str,
        answer: str,
        *,
        confirmation_id: str = "",
        input: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> Flow[Answered]:
        """Answers the question that a task waits with; `confirmation_id` says which, where there are several."""
        body: dict[str, Any] = {"answers": [answer], "confirmation_id": confirmation_id, "reason": reason}
        if input is not None:
            body["input"] = input
        request = Request("POST", path("tasks", task_id, "input"), encoded(body), JSON)
        return record(Answered, json.loads((yield from call(request, self._seconds)).content))
