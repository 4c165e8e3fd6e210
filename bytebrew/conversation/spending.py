"""Reserves what a model call may cost before it is sent, and has it settled with the usage."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import msgspec
from anyio.lowlevel import checkpoint_if_cancelled
from msgspec.structs import replace

from bytebrew.base.errors import EngineError, ProviderError
from bytebrew.contract.auth import account
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event
from bytebrew.contract.governance.spending import Payer, PlannedCall, Reservation, SpendGuard
from bytebrew.contract.messages import Message, ModelRequest
from bytebrew.conversation.model_calls import BoundModel
from bytebrew.store.turns import NewTurn, Unsaved

Write = Callable[[Callable[[Connection], None]], Awaitable[None]]
"""Runs work in a transaction, as `Journal.write` for the turn's log."""
BYTES_PER_TOKEN = 2
"""Fewest UTF-8 bytes per token in real requests: English has about 4, code and JSON 3, Chinese 2 to 3, digits 2."""
MESSAGE_TOKENS = 16
"""Upper bound of a message's own frame, and of a request's."""
TOOLS_TOKENS = 1024
"""Upper bound of what vendors add to a request with tools: 530 is the most in Anthropic's list."""
ATTACHMENT_TOKENS, ATTACHMENT_BYTES_PER_TOKEN = 4096, 24
"""Upper bounds of an attachment, whose tokens each vendor counts in its own way: a part of its own, and its base64."""


@asynccontextmanager
async def reserved(
    guards: Sequence[SpendGuard],
    new: NewTurn,
    model: BoundModel,
    request: ModelRequest,
    unsaved: Unsaved,
    append: Callable[[Event], object],
    write: Write,
) -> AsyncIterator[ModelRequest]:
    """The request as far as the guards let it go, for the one call within the block.

    What they hold is settled with the usage that the block adds to `unsaved`, in the transaction that stores it; a call
    that failed before the first byte of its answer, or was never sent, releases it.
    """
    held: list[Reservation] = []
    earlier, costs = len(unsaved.spent), False
    payer, planned = payer_of(new), plan(model, request)
    try:
        with anyio.CancelScope(shield=True):  # a guard may have written already when the turn is cancelled
            for guard in guards:
                if (reservation := await guard.reserve(payer, planned)) is not None:
                    held.append(reservation)
                    limits = [one for one in (planned.max_tokens, reservation.max_tokens) if one is not None]
                    planned = replace(planned, max_tokens=min(limits, default=None))
        for reservation in held:
            for notice in reservation.notices:
                append(notice)
        await checkpoint_if_cancelled()
        costs = True
        yield replace(request, max_tokens=planned.max_tokens)
    except ProviderError as error:
        costs = error.begun
        raise
    finally:
        spent = tuple(unsaved.spent[earlier:])
        if costs or spent:
            unsaved.settlements.extend(partial(one.settle, spent=spent) for one in held)
        else:
            with anyio.CancelScope(shield=True):
                for reservation in held:
                    await _release(reservation, write, unsaved)


async def _release(reservation: Reservation, write: Write, unsaved: Unsaved) -> None:
    """Frees what is held: now, or where the database does not take it with what the turn stores next."""
    try:
        await write(reservation.release)
    except EngineError:
        unsaved.settlements.append(reservation.release)


def payer_of(new: NewTurn) -> Payer:
    """Who the model calls of a turn are counted for."""
    return Payer(
        subject=account(new.actor.subject),
        token=new.actor.token,
        schema=new.schema,
        agent=new.agent,
        session_id=new.session_id,
        turn_id=new.id,
        root_turn_id=new.parent.root_turn_id if new.parent else new.id,
        own_key=new.own_key,
    )


def plan(model: BoundModel, request: ModelRequest) -> PlannedCall:
    """The upper bounds of a call, over a model and its fallback models."""
    candidates = (model, *model.fallback)
    known = [price for one in candidates if (price := one.highest_price) is not None]
    priced = len(known) == len(candidates)
    return PlannedCall(
        models=tuple(one.name for one in candidates),
        model_names=tuple(one.base.model_name for one in candidates),
        input_tokens=most_input_tokens(request),
        max_tokens=request.max_tokens,
        input_price=max(price for price, _ in known) if priced else None,
        output_price=max(price for _, price in known) if priced else None,
        own_key=model.own_key,
    )


def most_input_tokens(request: ModelRequest) -> int:
    """An upper bound, in practice, of the tokens that a vendor counts for a request."""
    texts = [request.system, *(part for message in request.messages for part in _texts(message))]
    texts += [msgspec.json.encode(tool).decode() for tool in request.tools]
    if request.response_format is not None:
        texts.append(request.response_format.instructions())
    size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    files = [file for message in request.messages for file in message.attachments]
    frames = 1 + len(request.messages) + sum(len(message.tool_calls) for message in request.messages)
    return (
        -(-size // BYTES_PER_TOKEN)
        + MESSAGE_TOKENS * frames
        + (TOOLS_TOKENS if request.tools or request.response_format else 0)
        + sum(ATTACHMENT_TOKENS + len(file.data) // ATTACHMENT_BYTES_PER_TOKEN for file in files)
    )


def _texts(message: Message) -> Iterator[str]:
    yield message.content
    yield message.thinking
    for call in message.tool_calls:
        yield call.tool
        yield msgspec.json.encode(call.input).decode()
