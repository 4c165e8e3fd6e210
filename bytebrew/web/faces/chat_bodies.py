"""A message of a face as the body of the engine's own chat, whose limits hold for it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, to_builtins
from msgspec.structs import replace

from bytebrew.contract.face import EarlierTurn, NewChat
from bytebrew.contract.messages import Attachment
from bytebrew.web.body_fields import unfit
from bytebrew.web.routes.chat import ChatRequest, attachments_of


def chat_body(new: NewChat, session_id: str | None) -> ChatRequest:
    """The body of the engine's own chat; InvalidRequest for what that does not take."""
    body = {
        "message": {"form": dict(new.form)} if new.form is not None else new.message,
        "attachments": _attachments(new.attachments),
        "session_id": session_id,
        "on_busy": new.on_busy,
        "user_sub": new.user_sub,
        "client_tools": [to_builtins(one) for one in new.client_tools],
    }
    return replace(_taken(body), response_format=UNSET if new.response_format is None else new.response_format)


def check_history(history: Sequence[EarlierTurn]) -> None:
    """Raises InvalidRequest for an attachment that the engine's own chat would not take."""
    for turn in history:
        for one in turn.message.attachments:
            attachments_of(_taken({"message": "-", "attachments": _attachments([one])}))


def _attachments(files: Sequence[Attachment]) -> list[dict[str, str]]:
    return [
        {"media_type": one.media_type, "name": one.name} | ({"data": one.data} if one.data else {"url": one.url})
        for one in files
    ]


def _taken(body: dict[str, Any]) -> ChatRequest:
    try:
        return msgspec.convert(body, ChatRequest)
    except msgspec.ValidationError as error:
        raise unfit(error, ChatRequest) from error
