"""Sampling: a server's request for an answer of a model, as far as the operator allows it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bytebrew import Attachment, Message, ModelRequest, Sampled

from ..jsonrpc import INVALID_PARAMS, JsonRpcError

METHOD = "sampling/createMessage"
MAX_MESSAGES, MAX_BYTES = 200, 1024 * 1024
MAX_STOPS = 10
_STOP_REASONS = {"end": "endTurn", "max_tokens": "maxTokens"}


def request_of(params: Any, most_tokens: int) -> ModelRequest:
    """The request to a model, of at most so many tokens; JsonRpcError if it wants what is not offered."""
    try:
        return _request(params if isinstance(params, dict) else {}, most_tokens)
    except ValueError as error:
        raise JsonRpcError(INVALID_PARAMS, str(error)) from error


def _request(params: Mapping[str, Any], most_tokens: int) -> ModelRequest:
    if params.get("tools") or params.get("toolChoice"):
        raise ValueError("this client offers no tools in sampling")
    if params.get("includeContext", "none") != "none":
        raise ValueError("this client includes no context of other servers in sampling")
    messages = params.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise ValueError(f"sampling takes 1 to {MAX_MESSAGES} messages")
    if len(msgspec.json.encode(messages)) > MAX_BYTES:
        raise ValueError(f"sampling takes messages of {MAX_BYTES} bytes at most")
    wanted = params.get("maxTokens")
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise ValueError("sampling needs maxTokens")
    stops, system, temperature = params.get("stopSequences"), params.get("systemPrompt"), params.get("temperature")
    return ModelRequest(
        model_name="",
        base_url="",
        system=system if isinstance(system, str) else "",
        messages=tuple(map(_message, messages)),
        max_tokens=min(wanted, most_tokens),
        temperature=float(temperature) if isinstance(temperature, int | float) else None,
        stop_sequences=tuple(one for one in stops[:MAX_STOPS] if isinstance(one, str))
        if isinstance(stops, list)
        else (),
    )


def _message(message: Any) -> Message:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        raise ValueError("a message of sampling is of the role user or assistant")
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content]
    texts, files = [], []
    for one in blocks:
        block = one if isinstance(one, dict) else {}
        kind = block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "image" and isinstance(block.get("data"), str) and message["role"] == "user":
            files.append(Attachment(media_type=str(block.get("mimeType")), data=block["data"]))
        else:
            raise ValueError(f"sampling takes no content of type {kind!r:.40}")
    return Message(message["role"], "\n".join(texts), attachments=tuple(files))


def result_of(answer: Sampled) -> dict[str, Any]:
    """The model's answer as the result of the request."""
    return {
        "role": "assistant",
        "content": {"type": "text", "text": answer.text},
        "model": answer.model,
        "stopReason": _STOP_REASONS.get(answer.stop, answer.stop),
    }
