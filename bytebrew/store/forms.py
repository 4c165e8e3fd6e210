"""Forms that a session has shown, and whether an answer fits."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bytebrew.base.errors import Detail, Unprocessable
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event
from bytebrew.store.journal import PACKED, read_events

MOST_TEXT = 10_000
MOST_FAULTS = 100
"""Answers that do not fit and are told one by one."""
EVENT = "structured_output"
"""The event that shows a form, or another block."""


class Option(Struct, frozen=True):
    """One choice."""

    label: str
    value: str


class Question(Struct, frozen=True):
    """One field of a form; `default` stands for an answer that is left out."""

    id: str
    label: str
    type: Literal["text", "select", "multiselect"]
    options: tuple[Option, ...] = ()
    default: str | tuple[str, ...] | None = None


class Form(Struct, frozen=True):
    """A form, or another block, as the event `structured_output` has brought it to the client."""

    output_type: str
    title: str = ""
    questions: tuple[Question, ...] = ()


def last(conn: Connection, session_id: str) -> Form:
    """The newest form of the session; Unprocessable where none was shown."""
    rows = conn.execute(
        """select n, (select coalesce(max(b.n), 0) from events b where b.session_id = e.session_id and b.n < e.n) before
        from events e where session_id = ? and type in (?, ?) order by n desc""",
        (session_id, EVENT, PACKED),
    )
    for row in rows:
        for _, name, data in reversed(read_events(conn, session_id, row["before"], row["n"])):
            if name == EVENT and (form := msgspec.json.decode(data, type=Form)).output_type == "form":
                return form
    details = [Detail("$.message.form", "the session has shown no form")]
    raise Unprocessable("There is no form to answer; send the message as text", details=details)


def form(data: bytes) -> dict[str, Any] | None:
    """The event's data where it shows a form to the person: a spawned agent has none to show."""
    shown: dict[str, Any] = msgspec.json.decode(data)
    return shown if shown.get("output_type") == "form" and "agent" not in shown else None


def shown_by(events: Iterable[Event]) -> dict[str, Any] | None:
    """The form that is the last of these events to show one."""
    shown = (form(msgspec.json.encode(event)) for event in events if event.name == EVENT)
    return next(filter(None, reversed([*shown])), None)


def answered(form: Form, answers: dict[str, Any]) -> str:
    """The answers as a message that a model can read; Unprocessable with a detail for each that does not fit."""
    faults = dict.fromkeys(answers.keys() - {one.id for one in form.questions}, "is no question of the form")
    lines = [f"Answers to the form '{form.title}':" if form.title else "Answers to the form:"]
    for question in form.questions:
        answer = answers.get(question.id, question.default)
        if fault := _fault(question, answer):
            faults[question.id] = fault
        else:
            lines.append(f"{question.label} ({question.id}): {_as_text(question, answer)}")
    if faults:
        named = nsmallest(MOST_FAULTS, faults.items())  # a body may have a million
        details = [Detail(f"$.message.form.{name}"[:300], fault) for name, fault in named]
        raise Unprocessable(f"{len(faults)} answers do not fit the form; the details name them", details=details)
    return "\n".join(lines)


def _fault(question: Question, answer: Any) -> str:
    if answer is None:
        return "is not answered"
    if question.type == "text":
        fits = isinstance(answer, str) and len(answer) <= MOST_TEXT
        return "" if fits else f"send a text of at most {MOST_TEXT} characters"
    values = [option.value for option in question.options]
    known = f"of {', '.join(values)}"[:500]
    if question.type == "select":
        return "" if answer in values else f"send one {known}"
    chosen = isinstance(answer, list | tuple) and all(one in values for one in answer)
    return "" if chosen and len(set(answer)) == len(answer) else f"send a list {known}"


def _as_text(question: Question, answer: Any) -> str:
    if question.type == "text":
        return str(answer)
    labels = {option.value: option.label for option in question.options}
    chosen = [answer] if isinstance(answer, str) else answer
    told = [one if labels[one] == one else f"{one} ({labels[one]})" for one in chosen]
    return ", ".join(told) or "none of them"
