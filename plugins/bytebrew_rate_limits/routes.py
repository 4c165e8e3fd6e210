"""Rate limits over REST, and where a key stands."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from bytebrew import Connection, Detail, InvalidRequest, Live, NotFound, Parameter, Request, Route, uptime

from . import store
from .limits import Limits
from .rules import NewRule, Rule, RulePatch
from .store import Stored

Text = Annotated[str, Meta(min_length=1)]


class RateLimit(Rule, frozen=True, kw_only=True):
    """A rate limit as it is answered."""

    created_at: str
    updated_at: Live[str]


class RateLimitUsage(Struct, frozen=True, kw_only=True):
    """How much of its limit a key has used; a `limit` of -1 is none."""

    rule: str
    key: str
    tier: str
    used: int
    limit: int
    window: str
    resets_at: str


_EXAMPLE = {
    "name": "by-organization",
    "key_header": "X-Org-Id",
    "tier_header": "X-Org-Tier",
    "default_tier": "free",
    "tiers": {"free": {"requests": 1000, "window": "1h"}, "pro": {"unlimited": True}},
}


class Rules:
    """The routes of the rules; changes take effect at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    async def list_rules(self, request: Request[None]) -> list[RateLimit]:
        """Every rate limit, in the order in which they apply."""
        return [_shown(one) for one in await request.engine.db.scan(store.list_all)]

    async def get_rule(self, request: Request[None]) -> RateLimit:
        """One rate limit."""
        return _shown(await request.engine.db.read(store.get, request.path["name"]))

    async def create_rule(self, request: Request[NewRule]) -> RateLimit:
        """A new rate limit, which applies after those that there are."""
        return await self._change(request, store.create, request.body)

    async def update_rule(self, request: Request[RulePatch]) -> RateLimit:
        """The rate limit with the fields that were sent; what it has counted stays."""
        return await self._change(request, store.update, request.path["name"], request.body)

    async def delete_rule(self, request: Request[None]) -> None:
        """Removes a rate limit and what it has counted."""

        def delete(conn: Connection) -> None:
            store.delete(conn, request.path["name"])
            request.record(conn)

        await self.limits.change(delete)

    async def _change(self, request: Request[Any], store: Callable[..., Stored], *args: Any) -> RateLimit:
        def change(conn: Connection) -> RateLimit:
            rule = _shown(store(conn, *args))
            request.record(conn, rule)
            return rule

        return await self.limits.change(change)

    async def rule_usage(self, request: Request[None]) -> RateLimitUsage:
        """Where a value of a key header stands under the first rule with that header; asking does not count."""
        header, value = request.query.get("key_header", ""), request.query.get("key_value", "")
        missing = [name for name, text in (("key_header", header), ("key_value", value)) if not text]
        if missing:
            details = [Detail(f"$.{name}", "is missing") for name in missing]
            raise InvalidRequest("Both key_header and key_value are required", details=details)
        usage = await self.limits.usage(header, value)
        if usage is None:
            raise NotFound(f"There is no rate limit with the key_header '{header[:100]}'")
        resets_at = datetime.fromtimestamp(math.ceil(usage.resets_at), UTC)
        return RateLimitUsage(
            rule=usage.rule,
            key=value,
            tier=usage.tier,
            used=usage.used,
            limit=-1 if usage.limit.requests is None else usage.limit.requests,
            window=uptime(usage.limit.seconds),
            resets_at=resets_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


def routes(limits: Limits) -> Iterator[Route]:
    """The routes of these limits."""
    rules = Rules(limits)
    everything, one = "/api/v1/rate-limits", "/api/v1/rate-limits/{name}"

    def route(method: Any, path: str, run: Any, summary: str, **more: Any) -> Route:
        return Route(method=method, path=path, run=run, summary=summary, **{"scope": "config", **more})

    yield route("GET", everything, rules.list_rules, "List rate limits", answer=list[RateLimit])
    new = {"body": NewRule, "example": _EXAMPLE, "answer": RateLimit, "status": 201, "idempotent": True}
    yield route("POST", everything, rules.create_rule, "Create a rate limit", **new)
    yield route("GET", one, rules.get_rule, "Get a rate limit", answer=RateLimit)
    for method in ("PUT", "PATCH"):
        example = {"tiers": {"free": {"requests": 2000, "window": "1h"}, "pro": {"unlimited": True}}}
        yield route(
            method, one, rules.update_rule, "Update a rate limit", body=RulePatch, answer=RateLimit, example=example
        )
    yield route("DELETE", one, rules.delete_rule, "Delete a rate limit", status=204)
    yield route(
        "GET",
        f"{everything}/usage",
        rules.rule_usage,
        "Where a key stands",
        scope="admin",
        answer=RateLimitUsage,
        query={
            "key_header": Parameter("the header that a rule counts by", Text, required=True),
            "key_value": Parameter("the value to look up", Text, required=True),
        },
        also={404: None},
    )


def _shown(stored: Stored) -> RateLimit:
    return RateLimit(**asdict(stored.rule), created_at=stored.created_at, updated_at=stored.updated_at)
