"""Knowledge bases in the configuration file."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bytebrew import Actor, ConfigSection, Connection, Detail, Engine, Forbidden

from . import bases, folders, indexes
from .bases import BaseName, BasePatch, Description, ModelKey, NewBase
from .dialect import json_list
from .knowledge import KNOWLEDGE

Folder = Annotated[str, Meta(max_length=4000, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="the path of a folder")]
AgentKeys = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=255)], ...], Meta(max_length=10_000)]

_AGENTS = """select a.name from knowledge_links l join agents a on a.id = l.agent_id
  join agent_capabilities c on c.agent_id = a.id and c.type = 'knowledge' where l.base_id = b.id order by a.name"""


class BaseItem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A knowledge base, its folder, and the agents that search it."""

    name: BaseName
    description: Description = ""
    folder: Folder | None = None
    embedding_model: ModelKey | None = None
    agents: AgentKeys = ()


class KnowledgeSection(ConfigSection):
    """The section `knowledge`: bases with their links, which replace the stored ones; without uploaded files.

    A linked agent gets the capability if it has none; a disabled one stays disabled. Folders are scanned when the
    engine starts or reloads; `folder: ""` removes the folder's files. Setting a folder requires the scope `admin`,
    because it makes the engine read local files.
    """

    key = "knowledge"
    collection = "knowledge-bases"
    item = BaseItem
    aliases = {"linked_agents": "agents", "embedding_model_id": "embedding_model"}
    after = "schemas"

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        """Every base by name, without empty fields."""
        rows = conn.execute(
            f"""select b.name, b.description, b.folder, m.name as embedding_model,
              {json_list(_AGENTS)} as agents
            from knowledge_bases b left join models m on m.name = b.embedding_model and m.kind = 'embedding'
            order by b.name"""  # noqa: S608
        )
        found = {}
        for row in rows:
            base = dict(row) | {"agents": msgspec.json.decode(row["agents"])}
            name = base.pop("name")
            found[name] = {field: value for field, value in base.items() if value}
        return found

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates or merges a base; after a change of the model its files are reindexed."""
        fields = {field: values[field] for field in ("description", "embedding_model") if field in values}
        row = conn.execute("select id from knowledge_bases where name = ?", (name,)).fetchone()
        if row is None:
            base = bases.create(conn, NewBase(name=name, **fields))
        else:
            base = bases.update(conn, row["id"], BasePatch(**fields))
            indexes.refresh(conn, base.id)
        folder = values.get("folder", base.folder) or None
        if folder != base.folder:
            if folder is not None and not actor.is_admin:
                message = "A folder is read on the engine's machine, so naming one takes the scope 'admin'"
                raise Forbidden(message, details=[Detail("$.folder", message)])
            bases.set_folder(conn, base.id, folder)
        if "agents" in values:
            bases.link_only(conn, base.id, values["agents"])

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Deletes a base with its links and all its files."""
        base_id = conn.execute("select id from knowledge_bases where name = ?", (name,)).fetchone()["id"]
        bases.link_only(conn, base_id, ())
        bases.delete(conn, base_id)

    def warnings(self, conn: Connection, engine: Engine, name: str) -> Sequence[str]:
        """Warns of a folder that cannot be read, and of agents whose knowledge is disabled."""
        row = conn.execute("select id, folder from knowledge_bases where name = ?", (name,)).fetchone()
        found = []
        if row["folder"] is not None:
            path = engine.state[KNOWLEDGE].folder(row["folder"])
            if fault := folders.fault(path):
                found.append(f"The folder {path} cannot be read: {fault}; what is indexed stays")
        off = conn.execute(
            """select a.name from knowledge_links l join agents a on a.id = l.agent_id
            left join agent_capabilities c on c.agent_id = a.id and c.type = 'knowledge'
            where l.base_id = ? and coalesce(c.enabled, 0) = 0 order by a.name""",
            (row["id"],),
        )
        found += [f"Agent '{agent['name']}' is linked, but its capability knowledge is off" for agent in off]
        return found

    async def changed(self, engine: Engine) -> None:
        """Scans the folders; their files are indexed in the background."""
        await engine.state[KNOWLEDGE].follow()
