"""A conversation at the terminal with bytebrew-client: questions and forms included."""

import json
import os
import sys
from typing import Any

from bytebrew_client import (
    APIError,
    ByteBrewError,
    Chat,
    Client,
    Confirmation,
    Done,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageRestart,
    Queued,
    StructuredOutput,
    ToolCall,
    ToolResult,
)

ENDS = {"cancelled": "\n[cancelled]", "max_tokens": "\n[the model came to its token limit]"}


def show(event: Event) -> None:
    """Prints deltas as they come and other events on a line each."""
    match event:
        case MessageDelta():
            print(event.content, end="", flush=True)
        case MessageRestart():  # after a restart the model gave another answer
            print(f"\n[again]\n{event.content}", end="", flush=True)
        case ToolCall():
            print(f"\n[{event.tool} {json.dumps(event.input)}]")
        case ToolResult(has_error=True):
            print(f"[{event.tool} failed: {event.output}]")
        case Queued():
            print("[waits for a question of an earlier message]" if event.needs_input else "[waits for its turn]")
        case StructuredOutput():
            print("\n" + "\n".join(filter(None, (event.title, event.description))))
            for row in event.rows:
                print(f"  {row.label}: {row.value}")
        case ErrorEvent():
            print(f"\n[{event.code}: {event.message}]")
        case Done():
            print(ENDS.get(event.finish_reason, ""))


def answer(chat: Chat[Any], question: Confirmation) -> None:
    """Asks the person about a call, whose arguments they may edit; anything but a yes is a no."""
    print(f"\n[{question.tool}, {question.risk}: {json.dumps(question.input)}]")
    unknown = question.kind == "unknown_outcome"
    text = prompt(
        "The engine stopped in the middle of this call: retry, mark_done or fail?"
        if unknown
        else "May it run? yes, no, or other arguments as JSON"
    )
    try:
        edited = json.loads(text) if text.startswith("{") else None
    except ValueError:
        edited = None
    try:
        chat.answer_question(question, "approve" if edited else text or "no", input=edited)
    except APIError as error:  # answered by somebody else, or over: the stream has the outcome
        note(error)


def fill_in(form: StructuredOutput) -> dict[str, Any]:
    """The answers to the form, by the ids of its questions; an empty line takes the default."""
    answers: dict[str, Any] = {}
    for one in form.questions:
        choices = f" ({', '.join(option.value for option in one.options)})" if one.options else ""
        default = f" [{one.default}]" if one.default else ""
        if text := prompt(f"{one.label}{choices}{default}:"):
            answers[one.id] = [part.strip() for part in text.split(",")] if one.type == "multiselect" else text
    return answers


def prompt(question: str) -> str:
    """Reads a line of standard input; nothing at its end."""
    print(question, end=" ", flush=True)
    return sys.stdin.readline().strip()


def note(error: Exception) -> None:
    """Prints a line that is not part of the conversation."""
    print(f"\n[{error}]", file=sys.stderr)


def main() -> None:
    """Usage: BYTEBREW_TOKEN=... chat.py SCHEMA, and a message on each line of standard input."""
    if len(sys.argv) != 2:
        raise SystemExit(main.__doc__)
    url, token = os.environ.get("BYTEBREW_URL", "http://127.0.0.1:8443"), os.environ.get("BYTEBREW_TOKEN", "")
    [schema] = sys.argv[1:]
    with Client(url, token) as client:
        chat: Chat[Any] | None = None
        while message := sys.stdin.readline():
            if not message.strip():
                continue
            before = chat.session_id if chat else ""
            chat = client.chat(schema, message.strip(), session_id=before)
            try:
                while True:
                    for event in chat:
                        show(event)
                        if isinstance(event, Confirmation):
                            answer(chat, event)
                    if chat.form is None:
                        break
                    chat = chat.answer_form(fill_in(chat.form))
            except ByteBrewError as error:
                note(error)
                if isinstance(error, APIError) and error.status in (401, 403, 404):
                    raise SystemExit(1) from error


if __name__ == "__main__":
    main()
