"""The input items of a response as messages of the engine."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bytebrew import Attachment, EarlierTurn, Message, ToolCall, earlier_turns

from ..attachments import attachment
from .request import converted, invalid

_PASSED_OVER = ("reasoning", "mcp_approval_request", "mcp_list_tools")
"""Items of earlier responses that the model is not sent."""


class _Message(Struct, frozen=True, kw_only=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[dict[str, Any]]
    id: str | None = None


class _Call(Struct, frozen=True, kw_only=True):
    name: str
    arguments: str


class _FunctionCall(_Call, frozen=True, kw_only=True):
    call_id: str


class _McpCall(_Call, frozen=True, kw_only=True):
    id: str
    output: str | None = None
    error: Any = None


class _Output(Struct, frozen=True, kw_only=True):
    call_id: str
    output: str | list[dict[str, Any]]


class Approval(Struct, frozen=True, kw_only=True):
    """A person's answer to a question."""

    approval_request_id: str
    approve: bool
    reason: str | None = None


class Input(NamedTuple):
    """The input: `instructions` of system and developer, `outputs` of the client's tools by call id, approvals.

    `items` are as they are listed later, without the bytes of images and files.
    """

    messages: list[Message]
    instructions: list[str]
    outputs: dict[str, str]
    approvals: list[Approval]
    items: list[dict[str, Any]]

    def new_items(self) -> list[dict[str, Any]]:
        """The items behind the last one that is not the client's."""
        ours = [n for n, one in enumerate(self.items) if one.get("role") not in ("user", "system", "developer")]
        return self.items[ours[-1] + 1 :] if ours else self.items

    def turns(self) -> tuple[list[EarlierTurn], list[str]]:
        """The conversation in turns, and what the assistant said before the user's first message."""
        first = next((n for n, one in enumerate(self.messages) if one.role == "user"), len(self.messages))
        return list(earlier_turns(self.messages[first:])), [one.content for one in self.messages[:first] if one.content]


def read_input(source: str | Sequence[dict[str, Any]]) -> Input:
    """The input of a request; InvalidRequest with the path of an item that cannot be read."""
    items = [{"role": "user", "content": source}] if isinstance(source, str) else source
    made = Input([], [], {}, [], [])
    tools: dict[str, str] = {}
    for n, item in enumerate(items):
        path = f"$.input[{n}]"
        kind = item.get("type", "message")
        listed = {"id": f"in_{n}", "type": kind, **{name: value for name, value in item.items() if value is not None}}
        if kind == "message":
            listed |= _message(made, converted(item, _Message, path), path)
        elif kind == "function_call":
            call = converted(item, _FunctionCall, path)
            tools[call.call_id] = call.name
            made.messages.append(_called(call, call.call_id, path))
        elif kind == "function_call_output":
            output = converted(item, _Output, path)
            text = made.outputs[output.call_id] = _output_text(output.output, path)
            tool = tools.get(output.call_id, "")
            made.messages.append(Message(role="tool", content=text, call_id=output.call_id, tool=tool))
        elif kind == "mcp_call":
            ran = converted(item, _McpCall, path)
            made.messages.append(_called(ran, ran.id, path))
            text = ran.output or (msgspec.json.encode(ran.error).decode() if ran.error else "")
            made.messages.append(
                Message(role="tool", content=text, call_id=ran.id, tool=ran.name, has_error=bool(ran.error))
            )
        elif kind == "mcp_approval_response":
            made.approvals.append(converted(item, Approval, path))
        elif kind not in _PASSED_OVER and not kind.startswith("bytebrew:"):
            raise invalid(f"{path}.type", f"no item of type '{kind[:100]}' is read here")
        made.items.append(listed)
    return made._replace(messages=_joined(made.messages))


def _joined(messages: Sequence[Message]) -> list[Message]:
    """The messages with what the assistant said in a row as one, as vendors want it."""
    made: list[Message] = []
    for role, group in groupby(messages, key=lambda message: message.role):
        first, *more = group
        if role == "assistant" and more:
            text = "".join(one.content for one in (first, *more))
            calls = tuple(call for one in (first, *more) for call in one.tool_calls)
            made.append(replace(first, content=text, tool_calls=calls))
        else:
            made += [first, *more]
    return made


def _message(made: Input, message: _Message, path: str) -> dict[str, Any]:
    """Takes a message; what is listed of it."""
    texts: list[str] = []
    files: list[Attachment] = []
    parts = message.content
    if isinstance(parts, str):
        kind = "output_text" if message.role == "assistant" else "input_text"
        parts = [{"type": kind, "text": parts}]
    shown = []
    for n, part in enumerate(parts):
        one, listed = _part(part, f"{path}.content[{n}]")
        shown.append(listed)
        if isinstance(one, str):
            texts.append(one)
        else:
            files.append(one)
    text = "".join(texts) if message.role == "assistant" else "\n".join(texts)
    if message.role in ("system", "developer"):
        made.instructions.append(text)
    elif message.role == "assistant":
        made.messages.append(Message(role="assistant", content=text))
    else:
        made.messages.append(Message(role="user", content=text, attachments=tuple(files)))
    return {"status": "completed", "content": shown}


def _part(part: dict[str, Any], path: str) -> tuple[str | Attachment, dict[str, Any]]:
    """A part of a message's content, and what is listed of it."""
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text", "refusal"):
        field = "refusal" if kind == "refusal" else "text"
        return converted(part.get(field), str, f"{path}.{field}"), part
    if kind == "input_image":
        if not part.get("image_url"):
            raise invalid(f"{path}.image_url", "Expected a URL or a data URL: files of their own are not offered")
        url = converted(part["image_url"], str, f"{path}.image_url")
        listed = {"type": kind, "detail": part.get("detail", "auto"), "image_url": _listed_url(url)}
        return attachment(url, f"{path}.image_url", usual="image/jpeg"), listed
    if kind == "input_file":
        source = next((name for name in ("file_data", "file_url") if part.get(name)), None)
        if source is None:
            raise invalid(f"{path}.file_data", "Expected file_data or file_url: files of their own are not offered")
        file: str = converted(part[source], str, f"{path}.{source}")
        name = converted(part.get("filename") or "", str, f"{path}.filename")
        listed = {"type": kind, "filename": name, "file_url": _listed_url(file)}
        return attachment(file, f"{path}.{source}", name=name, usual="application/pdf"), listed
    raise invalid(f"{path}.type", "Expected input_text, input_image or input_file, or output_text of the assistant")


def _listed_url(text: str) -> str | None:
    return text if text.startswith(("http://", "https://")) else None


def _called(call: _Call, call_id: str, path: str) -> Message:
    try:
        arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid(f"{path}.arguments", "Expected a JSON object as text") from error
    return Message(role="assistant", tool_calls=(ToolCall(call.name, arguments, call_id),))


def _output_text(output: str | list[dict[str, Any]], path: str) -> str:
    """The output of a tool as text; its images and files are not read."""
    if isinstance(output, str):
        return output
    texts = []
    for n, part in enumerate(output):
        one, _ = _part(part, f"{path}.output[{n}]")
        if not isinstance(one, str):
            raise invalid(f"{path}.output[{n}]", "the output of a tool is text")
        texts.append(one)
    return "\n".join(texts)
