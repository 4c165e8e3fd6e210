"""What plugins store of a person, to be exported to that person or forgotten."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bytebrew.contract.connection import Connection

USER = "user:"
"""Prefix of the subject of a JWT, before its `sub`."""


def names_of(sub: str) -> tuple[str, str]:
    """The names of a person in rows: without and with the prefix of a JWT's subject."""
    bare = sub.removeprefix(USER)
    return bare, USER + bare


class Person(NamedTuple):
    """A person, with the ids of all sessions of theirs, those of spawned agents, forks and background tasks included.

    `names` are the values by which rows name the person: as a `subject`, an `owner`, or a `user_sub`. `mask` replaces
    them in rows that are kept, such as those that sums are made of; it does not reveal who the person was.
    """

    names: tuple[str, ...]
    mask: str
    sessions: tuple[str, ...]


class PersonalData(NamedTuple):
    """Rows about a person under a name, such as `memories`; a name may stand for several tables.

    `export` returns everything about the person, each row as a struct or a mapping for JSON, without credentials; a
    generator keeps few in memory. `forget` deletes some of it, or masks what must be kept, and returns the number of
    rows. It is called until it returns 0, each time in a transaction of its own: keep each call to a few milliseconds.
    It may be called again after the engine was killed. The rows of the core, such as sessions, are still there while
    those of plugins are forgotten.
    """

    name: str
    export: Callable[[Connection, Person], Iterable[Any]]
    forget: Callable[[Connection, Person], int]
