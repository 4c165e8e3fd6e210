"""The catalog of known models and vendors, and its public routes."""

from typing import Annotated, Literal

from msgspec import Meta

from bytebrew import (
    CatalogEntry,
    CatalogModel,
    CatalogProvider,
    Detail,
    InvalidRequest,
    Parameter,
    Register,
    Request,
    Route,
    hookimpl,
)

VENDORS = (
    ("openai", "OpenAI", "https://console.openai.com"),
    ("anthropic", "Anthropic", "https://console.anthropic.com"),
    ("google", "Google", "https://aistudio.google.com"),
    ("ollama", "Ollama", "https://ollama.com"),
    ("openai_compatible", "OpenAI Compatible", ""),
    ("openrouter", "OpenRouter", "https://openrouter.ai"),
    ("azure_openai", "Azure OpenAI", "https://portal.azure.com"),
    ("deepseek", "DeepSeek", "https://platform.deepseek.com"),
    ("mistral", "Mistral", "https://console.mistral.ai"),
    ("xai", "xAI", "https://console.x.ai"),
    ("zai", "Z.ai (GLM)", "https://z.ai"),
)


def _model(
    model_id: str,
    display_name: str,
    provider: str,
    tier: Literal[1, 2, 3],
    sizes: tuple[int, int],
    prices: tuple[float, float],
    sees: bool,
    description: str,
    *roles: Literal["orchestrator", "sub_agent", "utility"],
    tools: bool = True,
    cached: float | None = None,
    written: float | None = None,
) -> CatalogModel:
    return CatalogModel(
        id=model_id,
        display_name=display_name,
        provider=provider,
        tier=tier,
        context_window=sizes[0],
        max_output=sizes[1],
        supports_tools=tools,
        supports_vision=sees,
        pricing_input=prices[0],
        pricing_output=prices[1],
        pricing_cached=cached,
        pricing_cache_write=written,
        description=description,
        recommended_for=roles,
    )


MODELS = (
    _model(
        # https://platform.claude.com/docs/en/models/opus-4-6/overview and /build-with-claude/prompt-caching#pricing
        "claude-opus-4-6", "Claude Opus 4.6", "anthropic", 1, (1_000_000, 128_000), (5, 25), True,
        "Anthropic's most capable model, for long and intricate work", "orchestrator", cached=0.5, written=6.25,
    ),
    _model(
        # https://platform.claude.com/docs/en/models/sonnet-4-6/overview and /build-with-claude/prompt-caching#pricing
        "claude-sonnet-4-6", "Claude Sonnet 4.6", "anthropic", 1, (1_000_000, 128_000), (3, 15), True,
        "A balance of skill, speed and price, strong with tools", "orchestrator", "sub_agent", cached=0.3, written=3.75,
    ),
    _model(
        # https://developers.openai.com/api/docs/models/gpt-5.4, prices for prompts up to 272,000 tokens
        "gpt-5.4", "GPT-5.4", "openai", 1, (1_050_000, 128_000), (2.5, 15), True,
        "OpenAI's general model for agents and code", "orchestrator", cached=0.25,
    ),
    _model(
        # https://developers.openai.com/api/docs/models/gpt-5.2
        "gpt-5.2", "GPT-5.2", "openai", 1, (400_000, 128_000), (1.75, 14), True,
        "The generation before GPT-5.4, at a lower price", "orchestrator", cached=0.175,
    ),
    _model(
        # https://ai.google.dev/gemini-api/docs/pricing, for prompts up to 200,000 tokens; as gemini-3.1-pro-preview
        "gemini-3.1-pro", "Gemini 3.1 Pro", "google", 1, (1_048_576, 65_536), (2, 12), True,
        "Google's model for long contexts and images", "orchestrator", cached=0.2,
    ),
    _model(
        "grok-4.1", "Grok 4.1", "xai", 1, (2_000_000, 16_384), (3, 15), True,
        "xAI's model, with the longest context of the list", "orchestrator",
    ),
    _model(
        "deepseek-chat", "DeepSeek V3.2", "deepseek", 1, (128_000, 8192), (0.28, 0.42), False,
        "Strong with tools for a small part of the usual price", "orchestrator", "sub_agent", cached=0.028,
    ),
    _model(
        # https://docs.z.ai/guides/overview/pricing
        "glm-5", "GLM-5", "zai", 1, (200_000, 8192), (1, 3.2), True,
        "Z.ai's model for agents, open weights", "orchestrator", cached=0.2,
    ),
    _model(
        # https://developers.openai.com/api/docs/models/gpt-5.4-mini
        "gpt-5.4-mini", "GPT-5.4 Mini", "openai", 2, (400_000, 128_000), (0.75, 4.5), True,
        "A small GPT-5.4 for narrow tasks in numbers", "sub_agent", cached=0.075,
    ),
    _model(
        # https://platform.claude.com/docs/en/models/opus-5/overview, in its comparison, and
        # https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
        "claude-haiku-4-5", "Claude Haiku 4.5", "anthropic", 2, (200_000, 64_000), (1, 5), True,
        "Anthropic's fast model for sub-agents", "sub_agent", cached=0.1, written=1.25,
    ),
    _model(
        # https://ai.google.dev/gemini-api/docs/models/gemini-2.5-flash and /pricing
        "gemini-2.5-flash", "Gemini 2.5 Flash", "google", 2, (1_048_576, 65_536), (0.3, 2.5), True,
        "Fast, with a long context", "sub_agent", cached=0.03,
    ),
    _model(
        # https://docs.aimlapi.com/api-references/text-models-llm/zhipu/glm-4.7
        "glm-4.7", "GLM-4.7", "zai", 2, (200_000, 128_000), (0.6, 2.2), False,
        "A lighter GLM for sub-agents", "sub_agent", cached=0.11,
    ),
    _model(
        "mistral-medium-3", "Mistral Medium 3", "mistral", 2, (128_000, 8192), (0.4, 2), False,
        "A European model of the middle class", "sub_agent",
    ),
    _model(
        # https://developers.openai.com/api/docs/models/gpt-5.4-nano
        "gpt-5.4-nano", "GPT-5.4 Nano", "openai", 3, (400_000, 128_000), (0.2, 1.25), False,
        "The smallest GPT-5.4, for sorting and labelling", "utility", tools=False, cached=0.02,
    ),
)  # fmt: skip


async def list_models(request: Request[None]) -> list[CatalogModel]:
    """Known models by tier; `provider`, `tier` and `supports_tools` narrow."""
    query = request.query
    tier, tools = query.get("tier", ""), query.get("supports_tools", "").lower()
    if tier and not (tier.isascii() and tier.isdecimal()):
        raise InvalidRequest("tier is 1, 2 or 3", details=[Detail("$.tier", "no number")])
    if tools not in ("", "true", "false", "1", "0"):
        raise InvalidRequest("supports_tools is true or false", details=[Detail("$.supports_tools", "no truth value")])
    found = [
        model
        for model in request.engine.catalog.values()
        if query.get("provider", "") in ("", model.provider)
        and (not tier or str(model.tier) == tier.lstrip("0"))
        and (not tools or model.supports_tools is (tools in ("true", "1")))
    ]
    return sorted(found, key=lambda model: model.tier)


async def list_providers(request: Request[None]) -> list[CatalogProvider]:
    """Known vendors."""
    return list(request.engine.vendors.values())


@hookimpl
def register_catalog(register: Register[CatalogEntry]) -> None:
    for model in MODELS:
        register(model)
    for vendor, name, website in VENDORS:
        auth_type: Literal["api_key", "none"] = "none" if vendor == "ollama" else "api_key"
        register(CatalogProvider(id=vendor, display_name=name, auth_type=auth_type, website=website))


@hookimpl
def register_routes(register: Register[Route]) -> None:
    url = "/api/v1/models/registry"
    narrowing: dict[str, str | Parameter] = {
        "provider": "of this vendor",
        "tier": Parameter("of this tier: 1, 2 or 3", Annotated[int, Meta(ge=0)] | Literal[""]),
        "supports_tools": Parameter("that call tools, or that do not", bool | Literal["1", "0", ""]),
    }
    register(
        Route(
            method="GET",
            path=url,
            scope=None,
            run=list_models,
            summary="List known models",
            answer=list[CatalogModel],
            query=narrowing,
        )
    )
    register(
        Route(
            method="GET",
            path=f"{url}/providers",
            scope=None,
            run=list_providers,
            summary="List known vendors",
            answer=list[CatalogProvider],
        )
    )
