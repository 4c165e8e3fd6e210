"""The catalog of known models, public and open to third parties."""

from typing import Any

import httpx
import pytest

from bytebrew import CatalogModel, CatalogProvider
from bytebrew.contract.entities import NewModel
from bytebrew.store.configuration import models
from bytebrew.testing import plugin, served_engine
from tests.tables import check_refusal

URL = "/api/v1/models/registry"


async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"{URL}?{query}", headers={"authorization": ""})
    assert answer.status_code == 200, answer.text
    return [model["id"] for model in answer.json()]


async def test_known_models_are_shown_to_anyone_by_tier() -> None:
    async with served_engine() as (_, client):
        answer = await client.get(URL, headers={"authorization": ""})
    models = answer.json()
    assert answer.status_code == 200
    assert len(models) == 14
    assert [model["tier"] for model in models] == sorted(model["tier"] for model in models)
    [glm] = [model for model in models if model["id"] == "glm-5"]
    assert glm.pop("description")
    assert glm == {
        "id": "glm-5",
        "display_name": "GLM-5",
        "provider": "zai",
        "tier": 1,
        "context_window": 200_000,
        "max_output": 8192,
        "supports_tools": True,
        "supports_vision": True,
        "pricing_input": 1.0,
        "pricing_output": 3.2,
        "pricing_cache_write": None,
        "pricing_cached": 0.2,
        "recommended_for": ["orchestrator"],
    }


async def test_a_known_model_is_shown_with_its_size_and_its_prices() -> None:
    async with served_engine() as (_, client):
        models = {model["id"]: model for model in (await client.get(URL)).json()}
    fields = ("context_window", "max_output", "pricing_input", "pricing_output", "pricing_cached")
    assert [models["gpt-5.4-mini"][name] for name in fields] == [400_000, 128_000, 0.75, 4.5, 0.075]
    assert [models["claude-sonnet-4-6"][name] for name in fields] == [1_000_000, 128_000, 3.0, 15.0, 0.3]
    assert all((model["pricing_cached"] or 0) < model["pricing_input"] for model in models.values())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("provider=anthropic", ["claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5"]),
        ("provider=anthropic&tier=1", ["claude-opus-4-6", "claude-sonnet-4-6"]),
        ("provider=anthropic&tier=3", []),
        ("tier=3", ["gpt-5.4-nano"]),
        ("tier=4", []),
        ("supports_tools=false", ["gpt-5.4-nano"]),
        ("supports_tools=0&tier=3", ["gpt-5.4-nano"]),
        ("supports_tools=true&tier=3", []),
        ("supports_tools=True&provider=zai", ["glm-5", "glm-4.7"]),
        ("provider=oracle", []),
    ],
)
async def test_filters_narrow_the_list(query: str, expected: list[str], shared_client: httpx.AsyncClient) -> None:
    assert await ids(shared_client, query) == expected


async def test_empty_filters_are_none(shared_client: httpx.AsyncClient) -> None:
    assert await ids(shared_client, "provider=&tier=&supports_tools=") == await ids(shared_client)


@pytest.mark.parametrize(
    ("query", "path"),
    [("tier=one", "$.tier"), ("tier=1.0", "$.tier"), ("tier=-1", "$.tier"), ("supports_tools=yes", "$.supports_tools")],
)
async def test_a_filter_that_is_none_is_a_400(query: str, path: str, shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.get(f"{URL}?{query}", headers={"authorization": ""})
    assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, path)


async def test_known_vendors_are_shown_to_anyone() -> None:
    async with served_engine() as (running, client):
        answer = await client.get(f"{URL}/providers", headers={"authorization": ""})
        vendors = {vendor["id"]: vendor for vendor in answer.json()}
        assert set(running.providers) - {"demo"} == set(vendors) - {"openai"}
    assert len(vendors) == 11
    assert [vendor["id"] for vendor in vendors.values() if vendor["auth_type"] == "none"] == ["ollama"]
    assert vendors["zai"] == {
        "id": "zai",
        "display_name": "Z.ai (GLM)",
        "auth_type": "api_key",
        "website": "https://z.ai",
    }


async def test_a_third_party_adds_to_it_by_hook() -> None:
    duck = CatalogModel(
        id="duck-1",
        display_name="Duck",
        provider="pond",
        tier=1,
        context_window=100,
        max_output=10,
        supports_tools=False,
        supports_vision=False,
        pricing_input=1,
        pricing_output=2,
        description="Quacks",
        recommended_for=("utility",),
    )

    def register_catalog(register: Any) -> None:
        register(duck)
        register(CatalogProvider(id="pond", display_name="Pond", auth_type="none", website=""))

    async with served_engine(plugin(register_catalog=register_catalog)) as (_, client):
        assert await ids(client, "provider=pond") == ["duck-1"]
        assert len(await ids(client)) == 15
        assert "duck-1" in await ids(client, "supports_tools=false")
        assert len((await client.get(f"{URL}/providers")).json()) == 12


async def test_a_model_of_an_older_file_that_is_named_like_the_catalog_is_reached_by_its_number() -> None:
    async with served_engine() as (running, client):
        new = NewModel(name="registry", type="demo", model_name="x")
        stored = await running.db.write(models.create, new, running.secrets)
        made = (await client.get(f"/api/v1/models/{stored.id}")).json()
        assert len(await ids(client)) == 14
        assert (await client.get(f"/api/v1/models/{made['id']}")).json() == made
        assert (await client.post("/api/v1/models/registry/verify")).json()["connectivity"] == "ok"
        assert (await client.delete(f"/api/v1/models/{made['id']}")).status_code == 204
