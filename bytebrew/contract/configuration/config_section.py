"""Sections of the configuration file: top-level keys with named items, and their export and import."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from msgspec import NODEFAULT, UNSET, Struct, UnsetType
from msgspec.structs import fields as fields_of

from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine


def section_changed(conn: Connection, key: str) -> None:
    """Has every node call `changed` of a section once the transaction is committed, within a second.

    The engine does so with each new version of an item; a plugin, for what its section depends on besides.
    """
    conn.execute(
        """insert into section_changes (section, n) values (?, 1)
        on conflict (section) do update set n = section_changes.n + 1""",
        (key,),
    )


class ManagedBy(Struct, frozen=True, kw_only=True):
    """Where an item is in the configuration file that the engine loads, which sets it again at the next start."""

    file: str
    line: int


class ConfigSection:
    """A top-level key of the YAML, such as `tools`, with items by name.

    `item` is the struct of an item, `name` included, or None if an item is a single value of any kind; new items must
    have the fields without a default. `aliases` are other names of fields.

    `secrets` are the paths of fields that hold credentials, such as `api_key`, `auth.token` or `env.*`. An export has a
    `${VAR}` in place of each, and an import accepts one. If the file does not replace a stored credential (its field is
    empty, or names a variable that is not set), `put` gets the value `stays` for it, or no value if `stays` is UNSET.
    With `keeps_variables` every `${VAR}` is imported as it is written; otherwise variables are expanded, except in
    credentials.

    Sections that name schemas are applied `after` them, others before the agents that name them. An import changes the
    items only if its caller has the `scope`. `collection` is the last segment of the items' REST path, if it differs
    from the key; `reserved` are names that items cannot have because core routes use them.
    """

    key: ClassVar[str]
    collection: ClassVar[str] = ""
    reserved: ClassVar[frozenset[str]] = frozenset()
    item: type[Struct] | None
    aliases: ClassVar[Mapping[str, str]] = {}
    secrets: ClassVar[frozenset[str]] = frozenset()
    stays: ClassVar[str | UnsetType] = UNSET
    keeps_variables: ClassVar[bool] = False
    after: ClassVar[Literal["models", "schemas"]] = "models"
    scope: ClassVar[str] = "config"

    @property
    def path(self) -> str:
        """The REST path of the items."""
        return f"/api/v1/{self.collection or self.key.replace('_', '-')}"

    def is_secret(self, path: Sequence[str]) -> bool:
        """Whether the field at a path of names within an item holds a credential."""
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
        """The values with the defaults of missing fields, except credentials, for `mode=replace`."""
        return {**{key: value for key, value in self.defaults().items() if key not in self.secret_fields}, **values}

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        """Every item by name, in a stable order: its fields without the name, credentials decrypted."""
        raise NotImplementedError

    def read(self, conn: Connection, engine: Engine, name: str) -> Any:
        """One item as in `export`, None if there is none; a section of many items reads it alone."""
        return self.export(conn, engine).get(name)

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates the item, or merges the values into it; EngineError with paths within the item in its details.

        `values` has the validated fields that are in the file.
        """
        raise NotImplementedError

    def link(self, conn: Connection, engine: Engine, name: str, values: Any) -> None:
        """Stores references to other items of the section, once all of them exist."""

    def unlink(self, conn: Connection, engine: Engine, name: str) -> None:
        """Removes references to other items of the section, before any of them is deleted."""

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Removes the item; raises EngineError if something else uses it."""
        raise NotImplementedError

    def warnings(self, conn: Connection, engine: Engine, name: str) -> Sequence[str]:
        """What an imported item lacks, one sentence each."""
        return ()

    async def changed(self, engine: Engine) -> None:
        """Called after a commit that changed items, to reconnect."""
