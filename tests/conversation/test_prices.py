"""A price of the catalog counts for a model at its own vendor's address, and nowhere else."""

import pytest
from msgspec.structs import replace

from bytebrew.contract.messages import Usage
from bytebrew.contract.provider import Target
from bytebrew.conversation.model_calls import Price
from bytebrew.testing import engine


@pytest.mark.parametrize(
    ("type", "model", "base_url", "priced"),
    [
        ("anthropic", "claude-sonnet-4-6", "", True),
        ("anthropic", "claude-sonnet-4-6", "https://api.anthropic.com/v1", True),
        ("anthropic", "claude-sonnet-4-6", "https://API.anthropic.com:443/", True),
        ("anthropic", "claude-sonnet-4-6", "https://relay.example", False),
        ("anthropic", "claude-sonnet-4-6", "http://api.anthropic.com", False),
        ("anthropic", "claude-sonnet-4-6", "https://api.anthropic.com.example/v1", False),
        ("anthropic", "claude-sonnet-4-6", "https://api.anthropic.com@relay.example/v1", False),
        ("openai_compatible", "gpt-5.4", "", True),
        ("openai_compatible", "gpt-5.4", "http://127.0.0.1:8000/v1", False),
        ("openai_compatible", "glm-5", "https://api.z.ai/api/paas/v4", True),
        ("openai_compatible", "glm-5", "", False),
        ("azure_openai", "gpt-5.4", "https://mine.openai.azure.com", False),
        ("ollama", "glm-5", "", False),
        ("anthropic", "claude-sonnet-4-6", "https://api.anthropic.com:99999", False),
    ],
)
async def test_a_catalog_price_is_that_of_the_models_own_vendor(
    type: str, model: str, base_url: str, priced: bool
) -> None:
    async with engine() as running:
        bound = running.models.bind(Target(name="m", type=type, model_name=model, base_url=base_url))
        assert (bound.price is not None) is priced


async def test_the_operators_price_counts_at_any_address() -> None:
    async with engine() as running:
        target = Target(name="m", type="openai_compatible", base_url="http://127.0.0.1:8000/v1", model_name="gpt-5.4")
        bound = running.models.bind(replace(target, pricing_input=3.0, pricing_output=6.0))
        assert bound.price is not None
        assert (bound.price.input, bound.price.output) == (3.0, 6.0)


def test_what_goes_into_a_cache_has_a_price_of_its_own() -> None:
    usage = Usage(1_000_000, 100_000, 500_000, 0, 200_000)
    assert Price(input=5, output=25, cached=0.5, cache_write=6.25).of(usage) == pytest.approx(1.5 + 0.25 + 1.25 + 2.5)
    assert Price(input=5, output=25).of(usage) == pytest.approx(5 + 2.5)


def test_what_a_vendor_counts_twice_is_paid_once() -> None:
    price = Price(input=1, output=1, cached=0.1, cache_write=1.25)
    assert price.of(Usage(100, 0, 500, 0, 500)) == pytest.approx(100 * 0.1 / 1_000_000)


async def test_anthropics_cache_writes_cost_a_quarter_more_than_its_input() -> None:
    async with engine() as running:
        for name, model in running.catalog.items():
            if name.startswith("claude-"):
                assert model.pricing_cache_write == pytest.approx(1.25 * model.pricing_input)
        bound = running.models.bind(Target(name="m", type="anthropic", model_name="claude-opus-4-6"))
        assert bound.price is not None
        assert bound.price.cache_write == 6.25
