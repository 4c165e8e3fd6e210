"""Models and their verification."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Struct, json
from msgspec.structs import asdict, replace

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.base.formats import narrowed
from bytebrew.base.urls import Url
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Live, Model, ModelKind, ModelPatch, NewModel, Secret
from bytebrew.contract.provider import Provider, Target, named
from bytebrew.contract.route import Parameter, Request, Route
from bytebrew.conversation.model_verification import Verification, verify
from bytebrew.engine import Engine
from bytebrew.store.configuration import models
from bytebrew.store.database.database import Database


class UnstoredModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to verify before it is created; its key is used once and not kept."""

    type: Annotated[str, Meta(min_length=1, max_length=64)]
    model_name: Annotated[str, Meta(min_length=1, max_length=255)]
    base_url: Url = ""
    api_key: Secret | None = ""
    api_version: Annotated[str, Meta(max_length=64)] = ""
    kind: ModelKind = "chat"


Body = TypeVar("Body", NewModel, ModelPatch, UnstoredModel)
ShownModel: Any = narrowed(
    Model,
    ("used_by", Live[tuple[str, ...]]),
    ("last_verified", Live[Verification | None]),  # type: ignore[misc]
    __doc__="""A configured LLM; its key is kept sealed and never leaves the engine.

    `used_by` are the agents that answer or summarise with it, `last_verified` what its last verification said, null
    after a change of its address, name or key.
    """,
)


def _shown(conn: Connection, rows: Sequence[Model]) -> list[Model]:
    """Models as the API shows them."""
    users, verified = models.users(conn), models.verifications(conn)
    return [
        ShownModel(
            **asdict(model),
            used_by=users.get(model.name, ()),
            last_verified=json.decode(verified[model.id], type=Verification) if model.id in verified else None,
        )
        for model in rows
    ]


def _typed(known: Mapping[str, Provider], request: Request[Body]) -> Body:
    """The body with the canonical type, if an alias was sent."""
    key = request.body.api_key
    if isinstance(key, str) and "${" in key:
        message = "write the key itself: ${VAR} is read in configuration files alone"
        raise InvalidRequest("A key over REST is no variable", details=[Detail("$.api_key", message)])
    wanted = request.body.type
    if not isinstance(wanted, str):
        return request.body
    provider = named(known, wanted)
    if provider is None:
        details = [Detail("$.type", f"known types: {', '.join(sorted(known))}")]
        raise InvalidRequest(f"'{wanted}' is not a model type; known are {', '.join(sorted(known))}", details=details)
    return replace(request.body, type=provider.type)


def _complete(conn: Connection, providers: dict[str, Provider], store: Callable[..., Model], *args: Any) -> Model:
    """Stores a model; rejects it if fields are missing or its provider does not support its kind."""
    model = store(conn, *args)
    if provider := providers.get(model.type):
        _check(provider, model, has_key=model.has_api_key)
    [shown] = _shown(conn, [model])
    return shown


def _check(provider: Provider, model: Model | UnstoredModel, *, has_key: bool) -> None:
    """Raises InvalidRequest if the provider does not support the model's kind, or needs fields that it lacks."""
    if model.kind == "embedding" and not provider.capabilities.embeddings:
        details = [Detail("$.kind", f"models of type '{model.type}' do not embed")]
        raise InvalidRequest(f"Models of type '{model.type}' make no embeddings", details=details)
    has = {"base_url": model.base_url, "api_key": has_key, "api_version": model.api_version}
    if lacks := sorted(name for name in provider.needs if not has[name]):
        details = [Detail(f"$.{name}", "is missing") for name in lacks]
        raise InvalidRequest(f"A model of type '{model.type}' needs {' and '.join(lacks)}", details=details)


async def _stored(engine: Engine, request: Request[Any], store: Callable[..., Model], *names: str) -> Model:
    """The model as it is stored now; resets the circuit breaker of its name."""
    args = (*names, _typed(engine.providers, request), engine.secrets)
    model = await request.write(_complete, engine.providers, store, *args)
    engine.models.breakers.pop(model.name, None)
    return model


async def list_models(db: Database, request: Request[None]) -> list[Model]:
    """Every model, oldest first; `kind` narrows to chat or embedding models."""
    kind = request.query.get("kind", "")
    if kind not in ("", "chat", "embedding"):
        details = [Detail("$.kind", "chat or embedding")]
        raise InvalidRequest("kind is chat or embedding", details=details)
    return await db.browse(lambda conn: _shown(conn, models.list_all(conn, kind)))


async def get_model(db: Database, request: Request[None]) -> Model:
    """One model."""
    [model] = await db.peek(lambda conn: _shown(conn, [models.get(conn, request.path["name"])]))
    return model


async def create_model(engine: Engine, request: Request[NewModel]) -> Model:
    """A new model; its key is sealed."""
    return await _stored(engine, request, models.create)


async def update_model(engine: Engine, request: Request[ModelPatch]) -> Model:
    """The model with the fields that were sent; an empty key keeps the old one, null removes it."""
    return await _stored(engine, request, models.update, request.path["name"])


async def delete_model(request: Request[None]) -> None:
    """Removes a model that no agent uses."""
    await request.write(models.delete, request.path["name"])


async def verify_model(engine: Engine, request: Request[None]) -> Verification:
    """Pings a model, and asks it for a tool call; what its vendor says is in the answer, not in the status.

    The answer is also the model's `last_verified`, unless the model has changed meanwhile.
    """
    model, target = await engine.db.read(_to_verify, request.path["name"])
    bound = engine.models.bind(target)
    verification = await verify(bound, engine.http, embeds=model.kind == "embedding")

    def store(conn: Connection) -> Verification:
        models.store_verification(conn, model, json.encode(verification).decode())
        return verification

    return await request.write(store)


async def verify_unstored(engine: Engine, request: Request[UnstoredModel]) -> Verification:
    """Verifies a model that is not stored, with the key in the request; nothing is kept but that it was done."""
    model = _typed(engine.providers, request)
    _check(engine.providers[model.type], model, has_key=bool(model.api_key))
    target = Target(
        name=model.model_name,
        type=model.type,
        model_name=model.model_name,
        base_url=model.base_url,
        api_version=model.api_version,
    )
    bound = engine.models.bind(target, key=model.api_key or "")
    return await verify(bound, engine.http, embeds=model.kind == "embedding")


def _to_verify(conn: Connection, key: str) -> tuple[Model, Target]:
    return models.get(conn, key), models.target(conn, key)


_PATH = "/api/v1/models/{name}"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/models",
            "models:read",
            partial(list_models, engine.db),
            "List models",
            query={"kind": Parameter("of this kind alone", Literal["chat", "embedding", ""])},
            answer=list[ShownModel],
        ),
        Route(
            "POST",
            "/api/v1/models",
            "models:write",
            partial(create_model, engine),
            "Create a model",
            body=NewModel,
            example={"name": "sonnet", "type": "anthropic", "model_name": "claude-sonnet-4-6", "api_key": "sk-ant-..."},
            answer=ShownModel,
            status=201,
            idempotent=True,
        ),
        Route(
            "POST",
            "/api/v1/models/verify",
            "models:write",
            partial(verify_unstored, engine),
            "Verify a model before it is created",
            action="model.try",
            body=UnstoredModel,
            example={"type": "anthropic", "model_name": "claude-sonnet-4-6", "api_key": "sk-ant-..."},
            answer=Verification,
        ),
        Route("GET", _PATH, "models:read", partial(get_model, engine.db), "Get a model", answer=ShownModel),
        *(
            Route(
                method,
                _PATH,
                "models:write",
                partial(update_model, engine),
                "Update a model",
                body=ModelPatch,
                example={"api_key": "sk-ant-...", "model_name": "claude-opus-4-6"},
                answer=ShownModel,
            )
            for method in ("PUT", "PATCH")
        ),
        Route("DELETE", _PATH, "models:write", delete_model, "Delete a model", status=204),
        Route(
            "POST",
            f"{_PATH}/verify",
            "models:write",
            partial(verify_model, engine),
            "Verify a model",
            answer=Verification,
        ),
    )
