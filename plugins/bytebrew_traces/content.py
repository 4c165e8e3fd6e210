"""Messages in the JSON of the GenAI conventions, masked as logs are, and of bounded length.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-input-messages.json
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bytebrew import Message, redact

MOST_TEXT = 10_000
"""Characters of one text; the rest is left out."""
MOST_MESSAGES = 64_000
"""Approximate limit in characters of a list of messages; the oldest are left out."""


def text(content: str) -> str:
    """A text, masked and truncated."""
    return redact(content[: 2 * MOST_TEXT])[:MOST_TEXT]


def messages(all_of_them: Sequence[Message], finish: str = "") -> str:
    """The newest of the messages that fit, as JSON; `finish` is why the answer ended that they are."""
    shown: list[dict[str, Any]] = []
    room = MOST_MESSAGES
    for message in reversed(all_of_them):
        one = {"role": message.role, "parts": list(_parts(message))} | ({"finish_reason": finish} if finish else {})
        room -= len(msgspec.json.encode(one))
        if room < 0 and shown:
            break
        shown.append(one)
    return msgspec.json.encode(shown[::-1]).decode()


def _parts(message: Message) -> Iterator[dict[str, Any]]:
    if message.thinking:
        yield {"type": "reasoning", "content": text(message.thinking)}
    if message.role == "tool":
        yield {"type": "tool_call_response", "id": message.call_id, "response": text(message.content)}
    elif message.content:
        yield {"type": "text", "content": text(message.content)}
    for call in message.tool_calls:
        arguments = text(msgspec.json.encode(call.input).decode())
        yield {"type": "tool_call", "id": call.call_id, "name": call.tool, "arguments": arguments}
