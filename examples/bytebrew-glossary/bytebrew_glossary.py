"""Glossaries: a table, a toolset for the agents that name them, routes, and a section of the configuration file."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from bytebrew import (
    Actor,
    Agent,
    AgentList,
    ConfigSection,
    Connection,
    Engine,
    Migration,
    Name,
    NotFound,
    Register,
    Request,
    Route,
    Tool,
    ToolError,
    Toolset,
    did_you_mean,
    hookimpl,
    placeholders,
    tool,
)

bytebrew_contract = 3

MEANINGS = (
    "create table glossary_terms (glossary text, term text, meaning text not null, primary key (glossary, term)) strict"
)
Meaning = Annotated[str, Meta(min_length=1, max_length=2000, description="what the term means, in a sentence or two")]
Term = Annotated[str, Meta(min_length=1, max_length=200)]


class Glossary(Struct, frozen=True, kw_only=True):
    """A glossary in the configuration file; terms that it leaves out go."""

    name: Name
    terms: dict[Term, Meaning] | UnsetType = UNSET


class Terms(Struct, frozen=True, kw_only=True):
    """A glossary with its terms."""

    name: str
    terms: dict[str, str]


class NewMeaning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The meaning of a term."""

    meaning: Meaning


def terms_of(conn: Connection, glossaries: Sequence[str]) -> dict[str, dict[str, str]]:
    """The terms of these glossaries, by glossary."""
    sql = f"select * from glossary_terms where glossary in ({placeholders(glossaries)}) order by glossary, term"
    found: dict[str, dict[str, str]] = {}
    for row in conn.execute(sql, tuple(glossaries)):
        found.setdefault(row["glossary"], {})[row["term"]] = row["meaning"]
    return found


def names_of(conn: Connection) -> list[str]:
    """The names of all glossaries."""
    return [row[0] for row in conn.execute("select distinct glossary from glossary_terms order by glossary")]


def set_term(conn: Connection, glossary: str, term: str, meaning: str) -> Terms:
    """Stores a term, and returns its glossary."""
    conn.execute(
        """insert into glossary_terms values (?, ?, ?)
        on conflict (glossary, term) do update set meaning = excluded.meaning""",
        (glossary, term, meaning),
    )
    return Terms(name=glossary, terms=terms_of(conn, [glossary])[glossary])


def remove_term(conn: Connection, glossary: str, term: str) -> None:
    """Deletes a term; NotFound if there is none."""
    sql = "delete from glossary_terms where glossary = ? and term = ?"
    if not conn.execute(sql, (glossary, term)).rowcount:
        raise NotFound(f"The glossary '{glossary}' has no term '{term}'")


def look_up(engine: Engine, glossaries: Sequence[str]) -> Tool:
    """The tool of an agent with these glossaries."""

    @tool(timeout=5, idempotent=True, risk="safe")
    async def look_up_term(term: Annotated[str, Meta(description="a word or an abbreviation")]) -> str:
        """Look up what a term means in this company."""
        found = await engine.db.read(terms_of, glossaries)
        known = {name: meaning for terms in found.values() for name, meaning in terms.items()}
        spellings = {name.casefold(): name for name in known}
        if (name := spellings.get(term.casefold())) is None:
            raise ToolError(f"No glossary has '{term}'{did_you_mean(term, known)}")
        return f"{name}: {known[name]}"

    return look_up_term


class Glossaries(Toolset):
    """One tool, for the agents that name a glossary."""

    lists = ("glossaries",)
    reserves = ("look_up_term",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        return [look_up(self._engine, agent.lists["glossaries"])]

    async def all(self) -> Sequence[Tool]:
        return [look_up(self._engine, ())]

    def missing(self, conn: Connection, agent: Agent) -> Sequence[str]:
        return sorted({*agent.lists["glossaries"]} - {*names_of(conn)})


class GlossarySection(ConfigSection):
    """The section `glossaries`."""

    key = "glossaries"
    item = Glossary

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        return {name: {"terms": terms} for name, terms in terms_of(conn, names_of(conn)).items()}

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Mapping[str, Any]) -> None:
        if "terms" in values:
            self.delete(conn, engine, name)
            for term, meaning in values["terms"].items():
                set_term(conn, name, term, meaning)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        conn.execute("delete from glossary_terms where glossary = ?", (name,))


async def list_glossaries(request: Request[None]) -> list[Terms]:
    """Every glossary with its terms, by name."""

    def read(conn: Connection) -> list[Terms]:
        return [Terms(name=name, terms=terms) for name, terms in terms_of(conn, names_of(conn)).items()]

    return await request.engine.db.scan(read)


async def put_term(request: Request[NewMeaning]) -> Terms:
    """Set the meaning of a term; its glossary is made with its first term."""
    return await request.write(set_term, request.path["name"], request.path["term"], request.body.meaning)


async def delete_term(request: Request[None]) -> None:
    """Delete a term; a glossary goes with its last one."""
    await request.write(remove_term, request.path["name"], request.path["term"])


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, f"{MEANINGS};"))


@hookimpl
def register_agent_lists(register: Register[AgentList]) -> None:
    register(AgentList(name="glossaries", description="glossaries in which the agent may look up terms"))


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    register(Glossaries(engine))


@hookimpl
def register_routes(register: Register[Route]) -> None:
    one, term = "/api/v1/glossaries", "/api/v1/glossaries/{name}/terms/{term}"
    register(Route("GET", one, "config", list_glossaries, "List glossaries", answer=list[Terms]))
    register(Route("PUT", term, "config", put_term, "Set a term", body=NewMeaning, answer=Terms))
    register(Route("DELETE", term, "config", delete_term, "Delete a term"))


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(GlossarySection())
