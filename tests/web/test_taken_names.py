"""No resource is called what a route is called: it could not be reached by its name."""

import json
from typing import Any

import httpx
import pytest

from bytebrew import Request, Route
from bytebrew.contract.route import taken_names
from bytebrew.testing import plugin, served_engine
from tests.tables import check_refusal, installed

BY_ID = {"/api/v1/tasks"}
"""Collections whose members have an id that is made for them, and no name."""
TAKEN = sorted(
    (path, word)
    for path, words in taken_names(one.path for one in installed()).items()
    for word in words
    if path not in BY_ID
)


async def body_of(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """The document's example of what is made at a path."""
    document = (await client.get("/api/v1/openapi.json")).json()
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return dict(content["example"])


@pytest.mark.parametrize(("path", "word"), TAKEN)
async def test_a_name_that_stands_in_a_path_is_refused_over_rest_and_at_import(path: str, word: str) -> None:
    async with served_engine() as (_, client):
        body = await body_of(client, path) | {"name": word}
        answer = await client.post(path, json=body)
        assert answer.status_code == 400, answer.text
        assert check_refusal(answer)["details"] == [
            {"path": "$.name", "message": "is the name of a route; take another"}
        ]
        key = path.rpartition("/")[2].replace("-", "_")
        del body["name"]
        taken = await client.post("/api/v1/config/import", content=json.dumps({key: {word: body}}))
        assert taken.status_code == 400, taken.text
        [detail] = check_refusal(taken)["details"]
        assert (detail["path"], "is the name of a route" in detail["message"]) == (f"$.{key}.{word}.name", True)
        assert not [row for row in (await client.get(path)).json() if row["name"] == word]


def test_registry_usage_and_metadata_are_among_them() -> None:
    assert {("/api/v1/models", "registry"), ("/api/v1/rate-limits", "usage"), ("/api/v1/tools", "metadata")} <= {*TAKEN}


async def test_a_plugins_route_takes_its_word_too() -> None:
    async def summary(request: Request[None]) -> dict[str, int]:
        """A sum."""
        return {"agents": 1}

    def register_routes(register: Any) -> None:
        register(Route(method="GET", path="/api/v1/agents/summary", scope="agents:read", run=summary, summary="A sum"))

    async with served_engine(plugin(register_routes=register_routes)) as (_, client):
        assert (await client.post("/api/v1/agents", json={"name": "summary"})).status_code == 400
        assert (await client.post("/api/v1/agents", json={"name": "summaries"})).status_code == 201
