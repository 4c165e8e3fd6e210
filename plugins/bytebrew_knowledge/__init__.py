"""Knowledge bases: files are parsed, split into chunks, indexed, and searched by linked agents and over REST."""

from collections.abc import Iterable

from msgspec import Struct

from bytebrew import (
    DOCUMENTS,
    CapabilityType,
    ConfigSection,
    Engine,
    Migration,
    PersonalData,
    Register,
    Route,
    Sample,
    Toolset,
    hookimpl,
)

from . import personal_data
from .bases import KnowledgeConfig
from .documents import KnowledgeDocuments
from .knowledge import KNOWLEDGE, Knowledge, Limits
from .routes import ROUTES
from .section import KnowledgeSection
from .signs import SIGNS, Signs
from .tables import MIGRATIONS


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Limits)


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in MIGRATIONS:
        register(migration)


@hookimpl
def register_capabilities(register: Register[CapabilityType]) -> None:
    register(CapabilityType(name="knowledge", config=KnowledgeConfig, flag="has_knowledge"))


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    engine.state[KNOWLEDGE] = knowledge = Knowledge(engine)
    engine.state[SIGNS] = Signs()
    engine.state[DOCUMENTS] = KnowledgeDocuments(engine)
    register(knowledge)


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(KnowledgeSection())


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)


@hookimpl
def register_personal_data(register: Register[PersonalData], engine: Engine) -> None:
    register(personal_data.of(engine))


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.state[KNOWLEDGE].start()


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[KNOWLEDGE].stop()


@hookimpl
def collect_metrics(engine: Engine) -> Iterable[Sample]:
    return engine.state[KNOWLEDGE].samples()
