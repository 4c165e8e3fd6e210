"""What the model reads of a call that did not run as it asked: refused, interrupted, or changed by a person."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bytebrew.contract.events import REFUSED, Notice
from bytebrew.contract.tool import Outcome
from bytebrew.store.confirmations import Confirmation

USED = Outcome("The approval of this call was used before", True)


def refused(answer: Confirmation) -> Outcome:
    """The outcome of a call that a person has refused, or about which nobody has answered in time."""
    if answer.status == "expired":
        return Outcome("Nobody answered in time whether this call may run, so it did not", True)
    reason = f": {answer.reason}" if answer.reason else ""
    return Outcome(f"{REFUSED}{reason}", True)


def interrupted(answer: Confirmation) -> Outcome:
    """The outcome of a call that a stop of the engine interrupted, as a person says; not of one to retry."""
    if answer.status == "expired":
        return Outcome("The engine was stopped during this call; nobody said in time whether it took effect", True)
    reason = f": {answer.reason}" if answer.reason else ""
    if answer.verdict == "mark_done":
        return Outcome(f"The engine was stopped during this call; a person says that it took effect{reason}", False)
    return Outcome(f"The engine was stopped during this call; a person says that it failed{reason}", True)


def changed(input: Mapping[str, Any]) -> str:
    """The line before the result of a call whose arguments a person has changed."""
    return f"[A person changed the arguments to {msgspec.json.encode(input).decode()}]\n"


def unmatched(gates: Sequence[str]) -> Notice:
    """The notice of names in `confirm_before` that match no tool."""
    names = ", ".join(f"'{gate}'" for gate in gates)
    mismatch = f"confirm_before names {names}, and the agent has no such tool"
    effect = "until that changes, a person is asked about every tool that may go by another name now"
    return Notice(code="gate_unmatched", message=f"{mismatch}: {effect}", names=tuple(gates))
