"""Structured output: tables, notes and forms for the user; a form's answer is the next message."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from bytebrew import (
    Agent,
    Call,
    Connection,
    Detail,
    Engine,
    Event,
    Register,
    Result,
    Tool,
    ToolError,
    Toolset,
    Unprocessable,
    hookimpl,
    tool,
)

Label = Annotated[str, Meta(min_length=1, max_length=500)]
MOST_TEXT = 10_000
MOST_FAULTS = 100
"""Limit of invalid answers that an error lists in detail."""
Text = Annotated[str, Meta(max_length=MOST_TEXT)]


class Row(Struct, frozen=True):
    """A line of a table."""

    label: Label
    value: Text | int | float | bool


class Action(Struct, frozen=True):
    """A button; its value, or else its label, is the user's next message."""

    label: Label
    type: Literal["primary", "secondary"] = "secondary"
    value: Text = ""


class Option(Struct, frozen=True):
    """One choice of a select or multiselect; without a value it stands for its label."""

    label: Label
    value: Annotated[str, Meta(max_length=500)] = ""


class Question(Struct, frozen=True):
    """One field of a form; a select or multiselect has 2 to 5 options, a text has none."""

    id: Annotated[str, Meta(min_length=1, max_length=100, description="what the answer is found under")]
    label: Label
    type: Literal["text", "select", "multiselect"] = "text"
    options: tuple[Option, ...] = ()
    default: Annotated[Text | tuple[Text, ...] | UnsetType, Meta(description="an option's value, or some text")] = UNSET


class StructuredOutput(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A block for the client to render; values that the model left out are filled in from their labels."""

    name = "structured_output"
    public = ("call_id", "output_type", "title", "description", "rows", "actions", "questions")
    call_id: str
    output_type: Literal["table", "info", "form"]
    title: str = ""
    description: str = ""
    rows: tuple[Row, ...] = ()
    actions: tuple[Action, ...] = ()
    questions: tuple[Question, ...] = ()

    @property
    def awaits_answer(self) -> bool:
        return self.output_type == "form"

    def answered(self, answers: Mapping[str, Any]) -> str:
        faults = dict.fromkeys(answers.keys() - {one.id for one in self.questions}, "is no question of the form")
        lines = [f"Answers to the form '{self.title}':" if self.title else "Answers to the form:"]
        for question in self.questions:
            answer = answers.get(question.id, question.default)
            if fault := _answer_fault(question, answer):
                faults[question.id] = fault
            else:
                lines.append(f"{question.label} ({question.id}): {_as_text(question, answer)}")
        if faults:
            named = nsmallest(MOST_FAULTS, faults.items())  # a body may have a million
            details = [Detail(f"$.message.form.{name}"[:300], fault) for name, fault in named]
            raise Unprocessable(f"{len(faults)} answers do not fit the form; the details name them", details=details)
        return "\n".join(lines)


class Blocks(Toolset):
    """Offers the tool to agents that list it."""

    lists = ("tools",)
    reserves = ("show_structured_output",)
    events = (StructuredOutput,)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tool = tool(idempotent=True)(self.show_structured_output)

    async def all(self) -> Sequence[Tool]:
        return (self._tool,)

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        return gate == self._tool.name and gate in agent.tools

    def has(self, conn: Connection, name: str) -> bool:
        return name == self._tool.name

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        return (self._tool,) if self._tool.name in agent.tools else ()

    async def show_structured_output(
        self,
        call: Call,
        output_type: Annotated[
            Literal["table", "info", "form", "summary_table"],
            Meta(description="table: rows; info: a title and a description; form: 1 to 5 questions"),
        ],
        title: Annotated[str, Meta(max_length=500)] = "",
        description: Text = "",
        rows: Annotated[tuple[Row, ...], Meta(max_length=200)] = (),
        actions: Annotated[tuple[Action, ...], Meta(max_length=10, description="buttons below the block")] = (),
        questions: tuple[Question, ...] = (),
    ) -> Result:
        """Show the user a table, a note (info) or a form.

        A form ends your turn: say what there is to say before it. The user's answer is the next message.
        """
        block = StructuredOutput(
            call_id=call.call_id,
            output_type="table" if output_type == "summary_table" else output_type,
            title=title,
            description=description,
            rows=rows,
            actions=tuple(replace(one, value=one.value or one.label) for one in actions),
            questions=tuple(map(_whole, questions)),
        )
        if obstacle := await self._obstacle(call, block):
            raise ToolError(f"Not shown. {obstacle}")
        if faults := list(_faults(block)):
            raise ToolError(f"Not shown. {'; '.join(faults)}. Mend this and call the tool again with the whole block")
        if block.output_type == "form":
            message = "The form is shown; the user's next message answers it"
            return Result(text=message, events=(block,), ends_turn=True)
        return Result(text="Shown to the user", events=(block,))

    async def _obstacle(self, call: Call, block: StructuredOutput) -> str:
        """Why the user could not see or answer this block; "" if they can."""
        turn = self._engine.turns[call.turn_id]
        if turn.spawned and block.output_type == "form":
            return "You work for another agent, and the user cannot answer you: say in your answer what is to be asked"
        if turn.spawned and not turn.subagents:
            return "You work for another agent, and the user does not see what you show: say it in your answer"
        if block.output_type == "form" and await self._engine.tasks.at_hand(call.turn_id):
            return "You work in the background, where nobody answers a form: say in your answer what is to be asked"
        return ""


def _whole(question: Question) -> Question:
    """The question with defaults filled in, and its default value in the format of an answer."""
    options = tuple(replace(one, value=one.value or one.label) for one in question.options)
    default = question.default
    if question.type == "multiselect" and default is not UNSET:
        default = (default,) if isinstance(default, str) else tuple(dict.fromkeys(default))
    elif question.type == "select" and isinstance(default, tuple) and len(default) == 1:
        default = default[0]
    return replace(question, options=options, default=default)


def _faults(block: StructuredOutput) -> Iterator[str]:
    """The faults of a block, with their paths."""
    kind = block.output_type
    if kind == "table" and not block.rows:
        yield "rows: a table needs at least one row with a label and a value"
    if kind == "info" and not (block.title or block.description or block.rows):
        yield "description: an info needs a title or a description"
    if kind == "form" and not 1 <= len(block.questions) <= 5:
        yield f"questions: a form has 1 to 5 questions, this one {len(block.questions)}"
    if kind != "form" and block.questions:
        yield f"questions: only a form asks questions, not {kind}; set output_type to form or leave them out"
    for twice, count in Counter(one.id for one in block.questions).items():
        if count > 1:
            yield f"questions: {count} of them have the id '{twice}'; give each its own"
    for n, question in enumerate(block.questions):
        for fault in _faults_of(question):
            yield f"questions[{n}].{fault}"


def _faults_of(question: Question) -> Iterator[str]:
    values = [option.value for option in question.options]
    if question.type == "text":
        if values:
            yield "options: a text question has none; make it a select or leave them out"
        if isinstance(question.default, tuple):
            yield "default: a text question has one text"
        return
    if not 2 <= len(values) <= 5:
        yield f"options: a {question.type} has 2 to 5 options, this one {len(values)}"
    if len(set(values)) < len(values):
        yield "options: two of them have one value"
    if question.default is not UNSET:
        chosen = question.default if isinstance(question.default, tuple) else (question.default,)
        if question.type == "select" and len(chosen) != 1:
            yield "default: a select has one choice"
        if unknown := [one for one in chosen if one not in values]:
            yield f"default: '{unknown[0]}' is none of the options' values: {', '.join(values)}"


def _answer_fault(question: Question, answer: Any) -> str:
    """Why an answer is invalid for its question; "" if it is valid."""
    if answer is None or answer is UNSET:
        return "is not answered"
    if question.type == "text":
        fits = isinstance(answer, str) and len(answer) <= MOST_TEXT
        return "" if fits else f"send a text of at most {MOST_TEXT} characters"
    values = [option.value for option in question.options]
    known = f"of {', '.join(values)}"[:500]
    if question.type == "select":
        return "" if answer in values else f"send one {known}"
    fits = isinstance(answer, list | tuple) and all(one in values for one in answer)
    return "" if fits and len(set(answer)) == len(answer) else f"send a list {known}"


def _as_text(question: Question, answer: Any) -> str:
    if question.type == "text":
        return str(answer)
    labels = {option.value: option.label for option in question.options}
    chosen = [answer] if isinstance(answer, str) else answer
    return ", ".join(one if labels[one] == one else f"{one} ({labels[one]})" for one in chosen) or "none of them"


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    register(Blocks(engine))
