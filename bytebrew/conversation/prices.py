"""What tokens cost: a price of the catalog is that of the model's own vendor, and of no other address."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from bytebrew.contract.catalog import CatalogModel
from bytebrew.contract.messages import Usage


class Price(Struct, frozen=True, kw_only=True):
    """US dollars for a million tokens.

    Input that comes out of a cache, or goes into one, costs as much as other input unless it has a price of its own.
    `base_url` is the vendor's whose price it is.
    """

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None
    base_url: str = ""

    def of(self, usage: Usage) -> float:
        """What some tokens cost."""
        read = min(usage.cached_tokens, usage.input_tokens)  # vendors have been seen to count what they do not bill
        written = min(usage.cache_write_tokens, usage.input_tokens - read)
        cost = (usage.input_tokens - read - written) * self.input + usage.output_tokens * self.output
        cost += read * (self.input if self.cached is None else self.cached)
        cost += written * (self.input if self.cache_write is None else self.cache_write)
        return cost / 1_000_000

    def counts_at(self, base_url: str) -> bool:
        """Whether the vendor is who is reached there, be the path as it may."""
        return _origin(base_url) == _origin(self.base_url)


def of_catalog(catalog: Iterable[CatalogModel], vendors: Mapping[str, str]) -> dict[str, Price]:
    """The catalog's prices by model; `vendors` has their base URLs by name.

    A price of a vendor without one counts where a model's provider has none either.
    """
    return {
        one.id: Price(
            input=one.pricing_input,
            output=one.pricing_output,
            cached=one.pricing_cached,
            cache_write=one.pricing_cache_write,
            base_url=vendors.get(one.provider, ""),
        )
        for one in catalog
    }


def _origin(url: str) -> tuple[str, str | None, int]:
    """Whom a URL reaches (RFC 6454 section 4)."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # such as a port past 65535, to which no request goes
        return url, None, 0
