"""The tool `read_result`, with which a model reads a truncated tool result in parts."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bytebrew.base.errors import ToolError
from bytebrew.contract.tool import Call, Tool, input_schema
from bytebrew.store import messages
from bytebrew.store.database.database import Database


class Arguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to read: `call_id` is that of the cut result, offset and length are in characters."""

    call_id: str
    offset: Annotated[int, Meta(ge=0)] = 0
    length: Annotated[int, Meta(ge=1, le=65536)] = 16384


class ReadResult(Tool):
    """The tool `read_result`, which an agent has once a result in its session was truncated."""

    name = "read_result"
    description = "Reads a stretch of an earlier tool result that was cut"
    input_schema = input_schema(Arguments)
    idempotent = True

    def __init__(self, db: Database, limit: int) -> None:
        self._db = db
        self._most = limit // 4 - 16  # a character has up to four bytes

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        try:
            wanted = msgspec.convert(input, Arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError(f"The arguments do not fit: {error}") from error
        whole = await self._db.read(messages.whole_result, call.session_id, wanted.call_id)
        if whole is None:
            raise ToolError(f"No result of the call '{wanted.call_id}' was cut in this session")
        end = wanted.offset + min(wanted.length, self._most)
        rest = f"\n[{end} of {len(whole)} characters]" if end < len(whole) else ""
        return whole[wanted.offset : end] + rest
