"""Models."""

from bytebrew.api import Request, Route
from bytebrew.config import Model, ModelPatch, NewModel
from bytebrew.errors import Detail, InvalidRequest
from bytebrew.store import models


def _check_type(request: Request[NewModel] | Request[ModelPatch]) -> None:
    known = request.engine.providers
    wanted = request.body.type
    if isinstance(wanted, str) and wanted not in known:
        details = [Detail("$.type", f"known types: {', '.join(sorted(known))}")]
        raise InvalidRequest(f"'{wanted}' is not a model type; known are {', '.join(sorted(known))}", details=details)


async def list_models(request: Request[None]) -> list[Model]:
    """Every model, oldest first."""
    return await request.engine.db.read(models.list_all)


async def get_model(request: Request[None]) -> Model:
    """One model."""
    return await request.engine.db.read(models.get, request.path["name"])


async def create_model(request: Request[NewModel]) -> Model:
    """A new model; its key is sealed."""
    _check_type(request)
    return await request.engine.db.write(models.create, request.body, request.engine.secrets)


async def update_model(request: Request[ModelPatch]) -> Model:
    """The model with the fields that were sent; an empty key keeps the old one."""
    _check_type(request)
    return await request.engine.db.write(models.update, request.path["name"], request.body, request.engine.secrets)


async def delete_model(request: Request[None]) -> None:
    """Removes a model that no agent uses."""
    await request.engine.db.write(models.delete, request.path["name"])


_PATH = "/api/v1/models/{name}"

ROUTES = (
    Route(
        method="GET",
        path="/api/v1/models",
        scope="models:read",
        run=list_models,
        summary="List models",
        answer=list[Model],
    ),
    Route(
        method="POST",
        path="/api/v1/models",
        scope="models:write",
        run=create_model,
        summary="Create a model",
        body=NewModel,
        answer=Model,
        status=201,
    ),
    Route(method="GET", path=_PATH, scope="models:read", run=get_model, summary="Get a model", answer=Model),
    *(
        Route(
            method=method,
            path=_PATH,
            scope="models:write",
            run=update_model,
            summary="Update a model",
            body=ModelPatch,
            answer=Model,
        )
        for method in ("PUT", "PATCH")
    ),
    Route(method="DELETE", path=_PATH, scope="models:write", run=delete_model, summary="Delete a model", status=204),
)
