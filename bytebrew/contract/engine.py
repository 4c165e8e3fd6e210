"""What a plugin may use of the engine that runs it, and of a turn that it observes."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class StateKey(Generic[T]):
    """The typed key of what a plugin keeps for each engine, in `engine.state`; keys are equal only to themselves."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"StateKey({self.name!r})"


class State:
    """What plugins keep for one engine, each under its own `StateKey`; KeyError for what nobody has set."""

    def __init__(self) -> None:
        self._values: dict[StateKey[Any], Any] = {}

    def __getitem__(self, key: StateKey[T]) -> T:
        value: T = self._values[key]
        return value

    def __setitem__(self, key: StateKey[T], value: T) -> None:
        self._values[key] = value

    def __contains__(self, key: StateKey[Any]) -> bool:
        return key in self._values


class Traffic(NamedTuple):
    """The streams that clients read now, and the requests refused so far as the engine had too many turns."""

    open_streams: int
    refused_turns: int


TRAFFIC = StateKey[Callable[[], Traffic]]("traffic")
"""Reads the traffic of an engine that is served over HTTP."""
