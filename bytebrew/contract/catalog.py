"""The catalog: known models and vendors, configured or not."""

from typing import Literal

from msgspec import Struct


class CatalogEntry(Struct, frozen=True, kw_only=True):
    """A line of the catalog, under its vendor's id."""

    id: str
    display_name: str


class CatalogProvider(CatalogEntry, frozen=True, kw_only=True):
    """A vendor; `website` is where a key is to be had."""

    auth_type: Literal["api_key", "none"]
    website: str


class CatalogModel(CatalogEntry, frozen=True, kw_only=True):
    """A model of a vendor; sizes in tokens, prices in US dollars for a million of them.

    `tier` is 1 for models that orchestrate, 2 for sub-agents, 3 for small chores.
    """

    provider: str
    tier: Literal[1, 2, 3]
    context_window: int
    max_output: int
    supports_tools: bool
    supports_vision: bool
    pricing_input: float
    pricing_output: float
    pricing_cached: float | None = None
    pricing_cache_write: float | None = None
    description: str
    recommended_for: tuple[Literal["orchestrator", "sub_agent", "utility"], ...]
