"""The first models, agents and schemas, which a plugin offers to an empty engine."""

from msgspec import Struct

from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import NewAgent, NewModel, NewSchema
from bytebrew.store.configuration import agents, models, schemas


class FirstEntities(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The offered entities, with the fields of their POST bodies."""

    models: tuple[NewModel, ...] = ()
    agents: tuple[NewAgent, ...] = ()
    schemas: tuple[NewSchema, ...] = ()


def create(conn: Connection, first: FirstEntities, secrets: Secrets) -> bool:
    """Creates them unless the engine has an agent or ever had a model; returns whether it did."""
    if models.ever_had_any(conn) or agents.count(conn):
        return False
    for model in first.models:
        models.create(conn, model, secrets)
    for agent in first.agents:
        agents.create(conn, agent)
    for schema in first.schemas:
        schemas.create(conn, schema)
    return True
