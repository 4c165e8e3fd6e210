"""A query string says what the route reads and nothing else: a misspelt filter lets nothing through."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from bytebrew.testing import served_engine
from tests.tables import check_refusal, installed, label, path_of


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with served_engine() as (_, client):
        yield client


async def test_an_unknown_parameter_is_a_400_that_names_the_known_ones_on_every_route(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()
    for route in installed():
        if any(name.startswith("<") for name in route.query):
            continue  # a page, whose address has any
        answer = await client.request(route.method, path_of(route), params={"colour": "red"})
        assert answer.status_code == 400, label(route)
        refusal = check_refusal(answer, label(route), route.face)
        if route.face is not None:
            assert "colour" in answer.text
            continue
        [detail] = refusal["details"]
        assert detail["path"] == "$.colour", label(route)
        operation = document["paths"][re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)][route.method.lower()]
        known = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
        assert detail["message"] == f"is no parameter; known are {', '.join(known) or 'none'}"


async def test_a_caller_who_may_not_come_in_hears_nothing_of_parameters(client: httpx.AsyncClient) -> None:
    del client.headers["Authorization"]
    assert (await client.get("/api/v1/agents?colour=red")).status_code == 401


async def test_a_parameter_with_a_name_of_the_callers_own_is_known(client: httpx.AsyncClient) -> None:
    base = (await client.post("/api/v1/knowledge-bases", json={"name": "b"})).json()["id"]
    url = f"/api/v1/knowledge-bases/{base}/search"
    assert (await client.get(url, params={"q": "x", "metadata.year": "2026"})).status_code == 200
    assert (await client.get(url, params={"q": "x", "meta": "2026"})).status_code == 400
