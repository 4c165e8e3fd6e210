"""SQL for models, one of which is the default."""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.json import decode
from msgspec.structs import asdict

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound
from bytebrew.base.formats import now, struct_of
from bytebrew.base.secrets import Secrets
from bytebrew.contract import connection
from bytebrew.contract.connection import Connection, insert
from bytebrew.contract.entities import Model, ModelPatch, NewModel
from bytebrew.contract.provider import Target
from bytebrew.store.sqlite.dialect import ever_had_rows

_SELECT = """select id, name, type, base_url, model_name, api_version, kind, embedding_dim, pricing_input,
  pricing_output, fallback, length(sealed_key) > 0 as has_api_key, is_default, created_at, updated_at from models"""
TARGET = """select name, type, base_url, model_name, api_version, sealed_key, pricing_input, pricing_output, fallback,
  context_window from models"""
_VERIFIED = {"type", "model_name", "base_url", "api_version", "sealed_key"}
"""Columns that a verification is about."""
_OF_WINDOW = ("type", "model_name", "base_url", "api_version")


def list_all(conn: Connection, kind: str = "") -> list[Model]:
    """Every model, or all of a kind, oldest first."""
    return [struct_of(row, Model) for row in conn.execute(f"{_SELECT} where ? in ('', kind) order by id", (kind,))]


def ever_had_any(conn: Connection) -> bool:
    """Whether the database has ever had a model, including deleted ones."""
    return ever_had_rows(conn, "models")


def get(conn: Connection, key: str) -> Model:
    """A model by name, or else by id; NotFound otherwise."""
    row = conn.execute(f"{_SELECT} where name = ?", (key,)).fetchone()
    if row is None and key.isascii() and key.isdecimal() and len(key) < 19:
        row = conn.execute(f"{_SELECT} where id = ?", (int(key),)).fetchone()
    if row is None:
        raise NotFound(f"There is no model '{key[:255]}'")
    return struct_of(row, Model)


def target(conn: Connection, key: str) -> Target:
    """The address and the encrypted key of a model, by name or id; NotFound otherwise."""
    return struct_of(conn.execute(f"{TARGET} where id = ?", (get(conn, key).id,)).fetchone(), Target)


def find_target(conn: Connection, name: str) -> Target | None:
    """The address and the encrypted key of a model by name, if there is one."""
    row = conn.execute(f"{TARGET} where name = ?", (name,)).fetchone()
    return None if row is None else struct_of(row, Target)


def create(conn: Connection, new: NewModel, secrets: Secrets) -> Model:
    """Stores a model and returns it; the first one becomes the default."""
    if conn.execute("select 1 from models where name = ?", (new.name,)).fetchone():
        raise Conflict(f"There is a model '{new.name}' already; PUT /api/v1/models/{new.name} changes it")
    _check_default(new.is_default, new.kind)
    _check_fallback(conn, new.name, new.fallback)
    users = _users(conn, new.name)
    if users and new.kind != "chat":
        message = f"Agent '{users[0]}' is to chat with '{new.name}', which a model of kind {new.kind} cannot"
        raise Conflict(f"{message}; take another name", details=[Detail("$.kind", message)])
    first = new.kind == "chat" and conn.execute("select 1 from models where kind = 'chat'").fetchone() is None
    values = asdict(new)
    values["sealed_key"] = secrets.seal(values.pop("api_key") or "")
    values |= {"is_default": first, "created_at": now()}
    values["updated_at"] = values["created_at"]
    insert(conn, "models", values)
    if new.is_default:
        _make_default(conn, new.name)
    return get(conn, new.name)


def update(conn: Connection, key: str, patch: ModelPatch, secrets: Secrets) -> Model:
    """Merges the patch into a model and returns it; an empty key keeps the stored one, None removes it."""
    model = get(conn, key)
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.pop("name", model.name) != model.name:
        raise InvalidRequest("A model's name is fixed", details=[Detail("$.name", "create another model instead")])
    if changes.get("kind", model.kind) != model.kind:
        raise InvalidRequest("A model's kind is fixed", details=[Detail("$.kind", "create another model instead")])
    default = changes.pop("is_default", model.is_default)
    _check_default(default, model.kind)
    if "fallback" in changes:
        _check_fallback(conn, model.name, changes["fallback"])
    if model.is_default and not default:
        raise InvalidRequest("One model is the default", details=[Detail("$.is_default", "make another the default")])
    address = changes.get("base_url", model.base_url)
    moved = address != model.base_url or (not address and changes.get("type", model.type) != model.type)
    if model.has_api_key and moved and changes.get("api_key", "") == "":
        message = "send the key with another base_url or vendor: the one that is stored is for the old address"
        raise InvalidRequest("A stored key goes to no other address", details=[Detail("$.api_key", message)])
    if (secret := changes.pop("api_key", "")) != "":
        changes["sealed_key"] = secrets.seal(secret or "")
    if any(changes.get(name, was) != was for name, was in asdict(model).items() if name in _OF_WINDOW):
        changes["context_window"] = None  # it was reported for the previous model or vendor
    if changes.keys() & _VERIFIED:
        changes["last_verified"] = None
    connection.update(conn, "models", {**changes, "updated_at": now()}, id=model.id)
    if default and not model.is_default:
        _make_default(conn, model.name)
    return get(conn, model.name)


def store_window(conn: Connection, name: str, tokens: int) -> None:
    """Stores the context window that the vendor reports for a model, until the model is changed."""
    conn.execute("update models set context_window = ? where name = ?", (tokens, name))


def verifications(conn: Connection) -> dict[int, str]:
    """What the last verification of each model said, as JSON, by the model's id."""
    rows = conn.execute("select id, last_verified from models where last_verified is not null")
    return {row["id"]: row["last_verified"] for row in rows}


def store_verification(conn: Connection, model: Model, verification: str) -> None:
    """Stores what a verification said, as JSON, unless the model has changed meanwhile."""
    sql = "update models set last_verified = ? where id = ? and updated_at = ?"
    conn.execute(sql, (verification, model.id, model.updated_at))


def users(conn: Connection) -> dict[str, tuple[str, ...]]:
    """The agents that answer or summarise with each model, those that name none with the default one."""
    sql = """select coalesce(a.model, d.name) as model, a.summary_model, a.name from agents a
      left join models d on d.is_default = 1 order by a.name"""
    found: dict[str, tuple[str, ...]] = {}
    for row in conn.execute(sql):
        for model in {row["model"], row["summary_model"]} - {None}:
            found[model] = (*found.get(model, ()), row["name"])
    return found


def delete(conn: Connection, key: str) -> None:
    """Deletes a model that no agent uses; Conflict lists those that do."""
    model = get(conn, key)
    users = _users(conn, model.name)
    if model.is_default:
        users += [row["name"] for row in conn.execute("select name from agents where model is null order by name")]
    if users:
        details = [Detail("$.agents", name) for name in users]
        raise Conflict(f"Model '{model.name}' is used by {len(users)} agents: {', '.join(users[:10])}", details=details)
    rows = conn.execute("select name, fallback from models order by name")
    if leaning := [row["name"] for row in rows if model.name in decode(row["fallback"])]:
        details = [Detail("$.models", name) for name in leaning]
        raise Conflict(
            f"Model '{model.name}' is the fallback of {len(leaning)} models ({', '.join(leaning[:10])})",
            details=details,
        )
    conn.execute("delete from models where id = ?", (model.id,))
    if model.is_default:
        conn.execute("update models set is_default = 1 where id = (select min(id) from models where kind = 'chat')")


def _users(conn: Connection, name: str) -> list[str]:
    """The agents that answer or summarise with a model, by name."""
    sql = """select name from agents where model = ?1 union select name from agents where summary_model = ?1
      order by name"""
    return [row["name"] for row in conn.execute(sql, (name,))]


def _check_default(wanted: bool, kind: str) -> None:
    if wanted and kind != "chat":
        raise InvalidRequest("The default model answers chats", details=[Detail("$.is_default", f"is of kind {kind}")])


def _check_fallback(conn: Connection, name: str, fallback: Sequence[str]) -> None:
    for n, other in enumerate(fallback):
        row = conn.execute("select kind from models where name = ?", (other,)).fetchone()
        if other == name:
            fault = "is the model itself"
        elif row is None:
            fault = "does not exist"
        elif row["kind"] != "chat":
            fault = f"is of kind {row['kind']}"
        else:
            continue
        raise InvalidRequest(f"fallback: '{other}' {fault}", details=[Detail(f"$.fallback[{n}]", fault)])


def _make_default(conn: Connection, name: str) -> None:
    conn.execute("update models set is_default = 0 where is_default = 1")
    conn.execute("update models set is_default = 1 where name = ?", (name,))
