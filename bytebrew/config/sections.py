"""The core's sections of the configuration: models, agents, schemas, settings."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from bytebrew.base.env_variables import placeholder, resolved
from bytebrew.base.errors import Detail, EngineError, InvalidRequest, NotFound
from bytebrew.base.formats import narrowed, struct_of
from bytebrew.base.validation import did_you_mean
from bytebrew.config.agent_warnings import missing, types_of
from bytebrew.contract.auth import Actor
from bytebrew.contract.configuration.config_section import ConfigSection, section_changed
from bytebrew.contract.configuration.runtime_option import Options
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine
from bytebrew.contract.entities import (
    Agent,
    AgentPatch,
    ModelPatch,
    NewAgent,
    NewCapability,
    NewModel,
    NewRelation,
    NewSchema,
    Schema,
    SchemaPatch,
)
from bytebrew.contract.provider import named
from bytebrew.store.configuration import agents, capabilities, changed_options, models, schemas
from bytebrew.store.configuration.agents import AgentLists
from bytebrew.store.configuration.capabilities import CapabilityTypes


@cache
def _fields(kind: type[Struct], *left_out: str) -> str:
    return ", ".join(field.name for field in msgspec.structs.fields(kind) if field.name not in left_out)


def _exists(conn: Connection, table: str, name: str) -> bool:
    return conn.execute(f"select 1 from {table} where name = ?", (name,)).fetchone() is not None  # noqa: S608


class ModelsSection(ConfigSection):
    """Models; only the default one has `is_default: true`, and a key may stay a `${VAR}`."""

    def __init__(self, close_breakers: Callable[[], None]) -> None:
        self._close_breakers = close_breakers

    key = "models"
    reserved = frozenset({"registry", "verify"})
    item = NewModel
    aliases = {"provider": "type", "model": "model_name", "model_kind": "kind"}
    secrets = frozenset({"api_key"})

    def defaults(self) -> Mapping[str, Any]:
        """The struct's defaults, without `is_default`: a model that omits it keeps it."""
        return {name: value for name, value in super().defaults().items() if name != "is_default"}

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        return self._read(conn, engine)

    def read(self, conn: Connection, engine: Engine, name: str) -> Any:
        return self._read(conn, engine, "where name = ?", name).get(name)

    def _read(self, conn: Connection, engine: Engine, where: str = "", *values: str) -> Mapping[str, Any]:
        found = {}
        sql = f"select {_fields(NewModel, 'api_key')}, sealed_key from models {where} order by name"  # noqa: S608
        for row in conn.execute(sql, values):
            model = dict(row)
            model["fallback"] = msgspec.json.decode(model["fallback"])
            model["api_key"] = engine.secrets.open(model.pop("sealed_key"))
            if not model["is_default"]:
                del model["is_default"]
            else:
                model["is_default"] = True
            found[model.pop("name")] = model
        return found

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Stores everything but the references to other models."""
        fields = {key: value for key, value in values.items() if key not in ("fallback", "is_default")}
        if "type" in fields:
            provider = named(engine.providers, fields["type"])
            if provider is None:
                known = sorted(engine.providers)
                message = f"'{fields['type'][:64]}' is not a model type{did_you_mean(fields['type'], known)}"
                raise InvalidRequest(message, details=[Detail("$.type", message)])
            fields["type"] = provider.type
        if _exists(conn, "models", name):
            models.update(conn, name, ModelPatch(**fields), engine.secrets)
        else:
            models.create(conn, NewModel(name=name, **fields), engine.secrets)

    def link(self, conn: Connection, engine: Engine, name: str, values: Any) -> None:
        """Stores the fallback, and makes the model the default if `is_default` is true; `false` changes nothing."""
        fields = {
            key: values[key] for key in ("fallback", "is_default") if values.get(key) or key == "fallback" in values
        }
        if fields:
            models.update(conn, name, ModelPatch(**fields), engine.secrets)

    def unlink(self, conn: Connection, engine: Engine, name: str) -> None:
        """Removes the fallback."""
        models.update(conn, name, ModelPatch(fallback=()), engine.secrets)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        models.delete(conn, name)

    def warnings(self, conn: Connection, engine: Engine, name: str) -> Sequence[str]:
        """Warns of missing fields that the provider needs, and of a key whose variable is not set."""
        model, key = models.get(conn, name), engine.secrets.open(models.target(conn, name).sealed_key)
        has = {"base_url": model.base_url, "api_key": key, "api_version": model.api_version}
        provider = engine.providers.get(model.type)
        needs = provider.needs if provider else frozenset()
        found = [f"A model of type '{model.type}' needs {field}" for field in sorted(needs) if not has[field]]
        if model.kind == "embedding" and provider and not provider.capabilities.embeddings:
            found.append(f"Models of type '{model.type}' make no embeddings")
        if placeholder(key):
            try:
                resolved(key)
            except EngineError as error:
                found.append(error.message)
        return found

    async def changed(self, engine: Engine) -> None:
        """Closes the circuit breakers: earlier failures no longer count."""
        self._close_breakers()


class AgentsSection(ConfigSection):
    """Agents with their capabilities; what they name may be missing."""

    def __init__(self, types: CapabilityTypes, lists: AgentLists) -> None:
        def complete(item: NewCapability) -> None:
            """Fills in the defaults of a config, as it is stored; `put` raises if it is invalid."""
            with suppress(msgspec.ValidationError, KeyError):
                config = msgspec.convert(item.config, types[item.type].config)
                msgspec.structs.force_setattr(item, "config", msgspec.to_builtins(config))

        capability = narrowed(types.new, __post_init__=complete)
        self.item = narrowed(lists.new, ("capabilities", tuple[capability, ...], ()))  # type: ignore[valid-type]
        self._types, self._lists = types, lists

    key = "agents"
    aliases = {"system_prompt": "system", "model_name": "model", "model_id": "model"}

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        return self._read(conn, agents.list_all(conn))

    def read(self, conn: Connection, engine: Engine, name: str) -> Any:
        stored = [one for one in [agents.find(conn, name)] if one is not None and one.name == name]
        return self._read(conn, stored, "where name = ?", name).get(name)

    def _read(self, conn: Connection, all_stored: Iterable[Agent], where: str = "", *values: str) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for row in conn.execute(f"select {_fields(NewAgent)} from agents {where} order by name", values):  # noqa: S608
            agent = asdict(struct_of(row, NewAgent))
            found[agent.pop("name")] = agent
        for stored in all_stored:
            found[stored.name] |= {name: stored.lists[name] for name in self._lists}
            found[stored.name]["capabilities"] = [
                {"type": one.type, "config": one.config, "enabled": one.enabled}
                for one in sorted(stored.capabilities, key=lambda capability: capability.type)
                if one.type in self._types
            ]
        return found

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates the agent, or merges the values into it; capabilities replace the stored ones."""
        fields = {key: value for key, value in values.items() if key != "capabilities"}
        if _exists(conn, "agents", name):
            agents.update(conn, name, self._lists.patch(**fields))
        else:
            agents.create(conn, self._lists.new(name=name, **fields))
        if "capabilities" in values:
            for old in capabilities.list_all(conn, name):
                if old.type in self._types:  # else its plugin is disabled, and an export omits it
                    capabilities.delete(conn, name, old.id)
            for n, one in enumerate(values["capabilities"]):
                with _within(f"capabilities[{n}]"):
                    capabilities.create(conn, self._types, name, one)

    def unlink(self, conn: Connection, engine: Engine, name: str) -> None:
        """Clears the list of agents that it may spawn."""
        agents.update(conn, name, AgentPatch(can_spawn=()))

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        agents.delete(conn, name)

    def warnings(self, conn: Connection, engine: Engine, name: str) -> Sequence[str]:
        return missing(conn, engine, agents.get(conn, name), types_of(conn))


class SchemasSection(ConfigSection):
    """Schemas with their relations, which replace the stored ones."""

    key = "schemas"
    item = NewSchema
    aliases = {"entry_agent_id": "entry_agent", "agent_relations": "relations"}

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        return {one.name: self._written(one) for one in schemas.list_all(conn)}

    def read(self, conn: Connection, engine: Engine, name: str) -> Any:
        return self._written(schemas.get(conn, name)) if _exists(conn, "schemas", name) else None

    def _written(self, schema: Schema) -> Mapping[str, Any]:
        return {
            "description": schema.description,
            "entry_agent": schema.entry_agent,
            "chat_enabled": schema.chat_enabled,
            "client_tools": schema.client_tools,
            "view": schema.view,
            "approvals": schema.approvals,
            "relations": [
                {"source": pair.source, "target": pair.target, "config": pair.config} for pair in schema.relations
            ],
        }

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates or merges; the default entry agent is the first relation's source."""
        fields = {key: value for key, value in values.items() if key != "relations"}
        relations: tuple[NewRelation, ...] | None = values.get("relations")
        there, entry = _exists(conn, "schemas", name), fields.pop("entry_agent", None)
        if relations and not entry and (entry == "" or not there):
            entry = relations[0].source
        if entry:
            fields["entry_agent"] = entry
        if there:
            schemas.update(conn, name, SchemaPatch(**fields))
        else:
            schemas.create(conn, NewSchema(name=name, **fields))
        if relations is None:
            return
        schemas.update(conn, name, SchemaPatch(relations=()))
        faults: list[Detail] = []
        for n, one in enumerate(relations):
            try:
                with _within(f"relations[{n}]"):
                    schemas.add_relation(conn, name, one)
            except EngineError as error:
                faults += error.details
        if faults:
            raise InvalidRequest(faults[0].message, details=faults)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Deletes a schema; its sessions stay."""
        schemas.delete(conn, name)


class SettingsSection(ConfigSection):
    """Settings that differ from their defaults."""

    key = "settings"
    item = None
    scope = "admin"

    def __init__(self, options: Options, follow: Callable[[], Awaitable[None]]) -> None:
        self._options = options
        self._follow = follow

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        """Every changed setting that is known, by key."""
        found = {}
        for key, (value, _) in changed_options.values(conn).items():
            try:
                self._options.named(key)
            except NotFound:  # an option of a plugin that is not loaded
                continue
            found[key] = value
        return found

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        try:
            value = self._options.checked(name, values)
        except NotFound as error:
            known = [option.key for option in self._options]
            raise InvalidRequest(f"there is no setting '{name[:100]}'{did_you_mean(name, known)}") from error
        except InvalidRequest as error:
            raise InvalidRequest(error.message, details=[Detail("$", one.message) for one in error.details]) from error
        changed_options.put(conn, name, value)
        section_changed(conn, self.key)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Resets the setting to its default."""
        changed_options.reset(conn, name)
        section_changed(conn, self.key)

    async def changed(self, engine: Engine) -> None:
        """Applies the settings."""
        await self._follow()


@contextmanager
def _within(path: str) -> Iterator[None]:
    """Prefixes the paths in the details of an error in the block."""
    try:
        yield
    except EngineError as error:
        details = error.details or (Detail("$", error.message),)
        error.details = tuple(Detail(f"$.{path}{one.path[1:]}", one.message) for one in details)
        raise


def core_sections(
    close_breakers: Callable[[], None],
    capability_types: CapabilityTypes,
    agent_lists: AgentLists,
    options: Options,
    follow_options: Callable[[], Awaitable[None]],
) -> tuple[ConfigSection, ...]:
    """The core's sections, in the order in which they are applied; they call the callbacks after a commit."""
    return (
        ModelsSection(close_breakers),
        AgentsSection(capability_types, agent_lists),
        SchemasSection(),
        SettingsSection(options, follow_options),
    )
