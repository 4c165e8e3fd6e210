"""What is stored with a turn that a run has begun."""

import re

import msgspec
from msgspec import Struct

from bytebrew import FaceTurn, PrecedingTurn


class SystemMessage(Struct, frozen=True, kw_only=True):
    """Instructions of the client, as it has them among its messages."""

    id: str
    role: str
    content: str


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The client's names for a turn, and what a snapshot of its messages needs.

    `message` is the client's id of the message, `form` the interrupt that the turn answers instead. `earlier` are the
    ids of the client's messages before it, unless there are too many. `tools` are the names of the client's tools.
    `version` is that of the client's protocol, empty before 1.0.
    """

    thread: str
    version: str = ""
    earlier: tuple[str, ...] = ()
    message: str = ""
    form: str = ""
    tools: tuple[str, ...] = ()
    system: tuple[SystemMessage, ...] = ()


MOST_EARLIER = 500
"""Limit of ids of earlier messages."""
_OWN = re.compile(r"(turn_[0-9a-f]{24})\.")
"""An id that a run has made, of a message or an interrupt: its turn's, and what tells it from others."""


def turn_of(id: str) -> str:
    """The turn that an id names, "" if it is of the client's own."""
    found = _OWN.match(id)
    return found[1] if found else ""


def kept_of(turn: FaceTurn | PrecedingTurn) -> Kept | None:
    """What a run has stored with a turn; None for a turn that no run has begun."""
    try:
        return msgspec.convert(turn.kept, Kept)
    except msgspec.ValidationError:
        return None
