"""The first models, agents and schemas, which a plugin offers to an engine without any."""

from msgspec import Struct

from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import NewAgent, NewModel, NewSchema
from bytebrew.store import agents, models, schemas


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The offered entities, with the fields of their POST bodies."""

    models: tuple[NewModel, ...] = ()
    agents: tuple[NewAgent, ...] = ()
    schemas: tuple[NewSchema, ...] = ()


def accept(conn: Connection, offer: Offer, secrets: Secrets) -> bool:
    """Stores the offer unless there was ever a model or there is an agent; returns whether it did."""
    if models.ever(conn) or agents.count(conn):
        return False
    for model in offer.models:
        models.create(conn, model, secrets)
    for agent in offer.agents:
        agents.create(conn, agent)
    for schema in offer.schemas:
        schemas.create(conn, schema)
    return True
