"""Rate limit rules: the API's structs, merging of patches, and validation."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from bytebrew import Detail, Duration, InvalidRequest, Name

Header = Annotated[str, Meta(pattern=r"^([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100})?\Z", description="the name of a header")]
Keys = Annotated[int, Meta(ge=1, le=100_000)]
Per = Literal["token", "subject", "ip"]
LONGEST = 31 * 86400


class Tier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """So many requests in any stretch of time as long as `window` (like 90s or 1h30m), or as many as one likes."""

    requests: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    window: Annotated[str, Meta(max_length=40)] = "1h"
    unlimited: bool = False

    @property
    def seconds(self) -> float:
        """The length of the window."""
        return Duration.parse(self.window or "1h")


Tiers = Annotated[dict[str, Tier], Meta(min_length=1, max_length=50)]


class RulePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a rate limit: what is left out stays; `tiers` replaces all of them."""

    name: Name | UnsetType = UNSET
    key_header: Header | UnsetType = UNSET
    per: Per | UnsetType | None = UNSET
    tier_header: Header | UnsetType = UNSET
    default_tier: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    tiers: Tiers | UnsetType = UNSET
    keys_per_caller: Keys | UnsetType | None = UNSET


class NewRule(RulePatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate limit to create.

    It counts by the value of `key_header`, or `per` API token, subject or address. The tier is that of the request's
    `tier_header`, if the rule names one, or else `default_tier`, which may be left out where there is one tier.

    The headers are for a gateway of yours to set. A caller who sends another `key_header` each time gains little by it:
    an end user counts under the own subject as well, and an API token under `keys_per_caller` values at a time, 1000
    unless the rule says otherwise; requests with further ones count under the token. So do those of a public page's
    visitors under the page's, where one who sends no such header is a value too. As one person can be many visitors,
    `per` subject holds none of them; address (of IPv6 its first 64 bits) and token do. An admin is taken at the word.
    """

    name: Name
    tiers: Tiers


class Rule(Struct, frozen=True, kw_only=True):
    """A rate limit as it is stored."""

    name: Name
    key_header: Header = ""
    per: Per | None = None
    tier_header: Header = ""
    default_tier: Annotated[str, Meta(max_length=64)] = ""
    tiers: Tiers
    keys_per_caller: Keys | None = None


def merged(old: Rule, patch: RulePatch) -> Rule:
    """The rule with the patch merged in; InvalidRequest with every fault of the result."""
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.get("per"):
        changes.setdefault("key_header", "")
    if changes.get("key_header"):
        changes.setdefault("per", None)
    rule = replace(old, **changes)
    if not changes.get("default_tier") and rule.default_tier not in rule.tiers and len(rule.tiers) == 1:
        rule = replace(rule, default_tier=next(iter(rule.tiers)))
    faults = []
    if rule.name != old.name:
        faults.append(Detail("$.name", "is fixed; create another rule instead"))
    if bool(rule.key_header) is (rule.per is not None):
        faults.append(Detail("$.key_header", "send either key_header or per"))
    if rule.default_tier not in rule.tiers:
        faults.append(Detail("$.default_tier", f"is none of the tiers {', '.join(rule.tiers)}"[:300]))
    for name, tier in rule.tiers.items():
        if not 1 <= len(name) <= 64:
            faults.append(Detail("$.tiers", f"the name '{name[:100]}' has none or more than 64 characters"))
        if tier.unlimited is (tier.requests is not None):
            faults.append(Detail(f"$.tiers.{name}", "send either requests or unlimited"))
        if fault := _unfit(tier):
            faults.append(Detail(f"$.tiers.{name}.window", fault))
    if faults:
        message = "; ".join(f"{one.path}: {one.message}" for one in faults[:5])
        raise InvalidRequest(f"Rate limit '{rule.name}': {message}", details=faults)
    return rule


def _unfit(tier: Tier) -> str:
    try:
        seconds = tier.seconds
    except ValueError:
        return "is no duration: write it like 90s, 15m or 1h30m"
    return "" if 1 <= seconds <= LONGEST and seconds % 1 == 0 else "is of whole seconds, from 1s to 31d"


def encoded(rule: Rule) -> str:
    """The rule as JSON for the database, without its name."""
    values: dict[str, Any] = asdict(rule)
    del values["name"]
    return msgspec.json.encode(values).decode()
