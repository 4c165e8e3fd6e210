"""A section of the configuration file: a top-level key with named items, and how they go out and come in."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from msgspec import NODEFAULT, UNSET, Struct, UnsetType
from msgspec.structs import fields as fields_of

from bytebrew.base.errors import Detail
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine


class Problem(Detail, frozen=True):
    """What is wrong at a place of the file; lines and columns count from 1."""

    line: int
    column: int


class Place(NamedTuple):
    """Where something stands; both count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Node:
    """A value of the file: a scalar, a list of nodes, or nodes by key; `keys` are the places of the keys.

    `size` is how many values it has with itself, `height` how many levels.
    """

    value: Any
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    height: int = 1
    gone: list[int] = field(default_factory=list)

    def holds(self, inner: "Node") -> None:
        """Counts a part."""
        self.size += inner.size
        self.height = max(self.height, inner.height + 1)

    def take_out(self, key: Any) -> None:
        """Removes a part; `written` still knows where the others stood."""
        if isinstance(self.value, list):
            self.gone.append(self.written(key))
        del self.value[key]

    def written(self, index: int) -> int:
        """The index that an item of the list had before others were taken out."""
        for gone in sorted(self.gone):
            index += gone <= index
        return index

    def problem(self, path: str, message: str) -> Problem:
        """What is wrong with this value."""
        return Problem(path[:300], message[:500], *self.place)

    def without(self, key: str) -> "Node":
        """The mapping without a key."""
        rest = {name: one for name, one in self.value.items() if name != key}
        return Node(rest, self.place, self.keys, size=self.size)

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: one.plain() for key, one in self.value.items()}
        return [one.plain() for one in self.value] if isinstance(self.value, list) else self.value


class ConfigSection:
    """A top-level key of the YAML, such as `tools`, with items by name.

    `item` is the struct of an item, `name` included, or None where an item is a single value of any kind; a field
    without a default is needed by new items. `aliases` are other names of fields. `secrets` are the paths of fields
    that hold credentials, such as `api_key`, `auth.token` or `env.*`: they leave as `${VAR}` and come in as it.
    One that is stored and that the file does not say comes to `put` as the word `stays`, or not at all without one.
    With `keeps_variables` every `${VAR}` comes in as it is written; otherwise it is expanded but for the secrets.
    Sections that name schemas are applied `after` them, others before the agents that name them. Who may import may
    change the items, if they have the `scope`. `collection` is the last word of the path at which they are over REST,
    where that is not the key; `reserved` are names that no item can have, as routes of the core have them there.
    """

    key: ClassVar[str]
    collection: ClassVar[str] = ""
    reserved: ClassVar[frozenset[str]] = frozenset()
    item: ClassVar[type[Struct] | None]
    aliases: ClassVar[Mapping[str, str]] = {}
    secrets: ClassVar[frozenset[str]] = frozenset()
    stays: ClassVar[str | UnsetType] = UNSET
    keeps_variables: ClassVar[bool] = False
    after: ClassVar[Literal["models", "schemas"]] = "models"
    scope: ClassVar[str] = "config"

    @property
    def path(self) -> str:
        """Where the items are over REST."""
        return f"/api/v1/{self.collection or self.key.replace('_', '-')}"

    def is_secret(self, path: Sequence[str]) -> bool:
        """Whether a field of an item, by the names on the way to it, holds a credential."""
        for secret in self.secrets:
            wanted = secret.split(".")
            if len(wanted) == len(path) and all(one in ("*", name) for one, name in zip(wanted, path, strict=True)):
                return True
        return False

    @property
    def secret_fields(self) -> set[str]:
        """The fields of an item that hold credentials."""
        return {secret.split(".")[0] for secret in self.secrets}

    def defaults(self) -> Mapping[str, Any]:
        """Defaults of fields that an item may leave out."""
        found = {}
        for one in fields_of(self.item) if self.item is not None else ():
            default = one.default if one.default_factory is NODEFAULT else one.default_factory()
            if one.name != "name" and default is not NODEFAULT and default is not UNSET:
                found[one.encode_name] = default
        return found

    def completed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with defaults for the fields that are left out, for `mode=replace`; credentials stay."""
        return {**{key: value for key, value in self.defaults().items() if key not in self.secret_fields}, **values}

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        """Every item by name, in an order that stays: its fields without the name, credentials opened."""
        raise NotImplementedError

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates the item, or merges the values into it; raises EngineError, its details with paths in the item.

        `values` has the fields that the file has, already checked.
        """
        raise NotImplementedError

    def link(self, conn: Connection, engine: Engine, name: str, values: Any) -> None:
        """Stores references to other items of the section, once all of them are there."""

    def unlink(self, conn: Connection, engine: Engine, name: str) -> None:
        """Drops references to other items of the section, before any of them is deleted."""

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Removes the item; raises EngineError where something else uses it."""
        raise NotImplementedError

    def warnings(self, conn: Connection, engine: Engine, name: str) -> Sequence[str]:
        """What an imported item still lacks, a sentence each."""
        return ()

    async def changed(self, engine: Engine) -> None:
        """Called after items have changed and are committed, to reconnect."""


class ConfigDialect:
    """Another way to write a configuration file, which is read like the engine's own.

    `sections` are top-level keys that are read beside those of sections.
    """

    sections: ClassVar[frozenset[str]] = frozenset()

    def convert(
        self,
        root: Node,
        known: Collection[str],
        note: Callable[[Problem], None],
        warn: Callable[[Problem], None],
    ) -> Node:
        """The file with each of the `known` sections as a mapping of names to items, places kept; the rest as it is.

        `note` takes a problem that keeps the file from being imported, `warn` one that does not.
        """
        raise NotImplementedError
