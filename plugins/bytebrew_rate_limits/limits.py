"""The guard that counts requests and rejects those above a limit."""

import asyncio
import hashlib
import ipaddress
import logging
import math
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from bytebrew import Connection, Engine, EngineError, Guard, Request, Route, Sample, StateKey, uptime

from . import store
from .rules import Rule
from .sliding_window import Entry, SlidingWindow
from .store import Counted, Stored

log = logging.getLogger(__name__)

T = TypeVar("T")

SCOPES = frozenset({"chat", "tasks", "public"})
"""Scopes whose routes are counted: clients' routes, so that operators are never locked out."""
OPEN = re.compile(r"/(sessions|tasks)/\{")
"""Routes of an existing session or task, which are not counted."""
KEYS = 1000
"""Default for the number of key header values that one API token may use at a time."""
SAVE_SECONDS = 1.0
"""Interval of saving counts; a kill -9 loses unsaved ones."""
PRUNE_SECONDS = 60.0
MOST_KEYS = 100_000
"""Limit of keys per rule; further ones count under their subject, visitors' under that of their page."""


class RateLimited(EngineError):
    """A rule's limit is reached; `retry_after` is in seconds."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: int, headers: dict[str, str]) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after), **headers})
        self.retry_after = retry_after

    def body(self) -> dict[str, object]:
        """The error with the wait."""
        return {**super().body(), "retry_after": self.retry_after}


class Limit(NamedTuple):
    """The limit of a tier; None for no limit."""

    requests: int | None
    seconds: float


class Usage(NamedTuple):
    """Usage of a key."""

    rule: str
    tier: str
    limit: Limit
    used: int
    resets_at: float


class Known(Protocol):
    """The windows and the keys of callers that there are."""

    def has_window(self, tier: str, key: str) -> bool:
        """Whether a key has its own window, or can get one."""

    def may_name(self, caller: str, key: str, now: float) -> bool:
        """Whether a caller may use a key: it uses it already, or has room for another."""


class Live(Known):
    """An active rule, with a window per tier and key."""

    def __init__(self, stored: Stored, before: "Live | None") -> None:
        rule = stored.rule
        self.id = stored.id
        self.rule: Rule = rule
        self.limits = {name: Limit(tier.requests, tier.seconds) for name, tier in rule.tiers.items()}
        self.windows: dict[tuple[str, str], SlidingWindow] = before.windows if before else {}
        self.unsaved: dict[tuple[str, str, float], Entry] = before.unsaved if before else {}
        self.refused: int = before.refused if before else 0
        self._named: dict[str, dict[str, float]] = before._named if before else {}
        self.longest = max(limit.seconds for limit in self.limits.values())
        self._key_header = rule.key_header.lower()
        self._tier_header = rule.tier_header.lower()

    def keys(self, request: Request[Any], now: float, known: Known) -> list[str]:
        """The keys under which a request counts; empty if the rule does not apply."""
        actor, tier = request.actor, self.tier(request)
        if self.rule.per == "ip":
            return [f"ip {network_of(request.client)}"]
        if self.rule.per == "token":
            return [f"token {actor.token}"] if actor.token else []
        if "public" in actor.scopes and actor.kind == "token":  # the page's token, which all visitors share
            return []
        own = subject_key(actor.subject)
        # visitors share their page's, because a person can become a new visitor at any time
        shared = subject_key(actor.token or actor.subject)
        if self.rule.per == "subject":
            return [own] if own == shared or known.has_window(tier, own) else []
        value = request.headers.get(self._key_header, "")
        key = header_key(value) if value else own
        if not known.has_window(tier, key):
            return [shared]
        if actor.is_admin:
            return [key]
        if actor.token and key != shared and not known.may_name(actor.token, key, now):
            return [shared]
        if actor.kind == "token" or key == own:
            return [key]
        return [key, own if known.has_window(tier, own) else shared]

    @property
    def most_keys(self) -> int:
        """How many values of the key header a token may use at a time."""
        return self.rule.keys_per_caller or KEYS

    def has_window(self, tier: str, key: str) -> bool:
        return len(self.windows) < MOST_KEYS or (tier, key) in self.windows

    def may_name(self, caller: str, key: str, now: float) -> bool:
        named = self._named.setdefault(caller, {})
        if key not in named and len(named) >= self.most_keys:
            return False
        named[key] = now
        return True

    def tier(self, request: Request[Any]) -> str:
        """The tier of the request."""
        named = request.headers.get(self._tier_header, "")
        return named if self._tier_header and named in self.limits else self.rule.default_tier

    def window(self, tier: str, key: str, now: float) -> SlidingWindow:
        """The window of a tier and a key, moved to the current time."""
        seconds = self.limits[tier].seconds
        window = self.windows.get((tier, key))
        if window is None:
            window = self.windows[tier, key] = SlidingWindow(seconds)
        window.seconds = seconds
        window.slide(now)
        return window

    def prune(self, now: float) -> None:
        """Deletes empty windows and those of removed tiers."""
        for (tier, key), window in list(self.windows.items()):
            window.slide(now)
            if not window.used or tier not in self.limits:
                del self.windows[tier, key]
        for caller, named in list(self._named.items()):
            self._named[caller] = {key: then for key, then in named.items() if 0 <= now - then < self.longest}
            if not self._named[caller]:
                del self._named[caller]


class Limits:
    """The active rules; `clock` returns seconds since 1970."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._live: list[Live] = []
        self.guard = Guard(self.check, active=False)
        self._saving: asyncio.Task[None] | None = None
        self._pruned = clock()

    async def check(self, request: Request[Any], route: Route) -> dict[str, str] | None:
        """Counts a request under every rule that applies; RateLimited if a limit is reached.

        Repeats of an Idempotency-Key are not counted. The headers are those of the first rule with a limit.
        """
        if not counts(request, route):
            return None
        now = self._clock()
        counting = []
        for live in self._live:
            for key in live.keys(request, now, live):
                tier = live.tier(request)
                window, limit = live.window(tier, key, now), live.limits[tier]
                if limit.requests is not None and window.used >= limit.requests:
                    live.refused += 1
                    raise refusal(live.rule.name, limit.requests, window, now)
                counting.append((live, tier, key, window))
        for live, tier, key, window in counting:
            entry = window.add(now)
            live.unsaved[tier, key, entry.first] = entry
        if counting and self._saving is None:
            self._saving = asyncio.create_task(self._save_later())
        for live, tier, _, window in counting:
            if (most := live.limits[tier].requests) is not None:
                return headers_of(most, most - window.used, window.resets_at(now))
        return None

    async def usage(self, header: str, value: str) -> Usage | None:
        """Usage of a key header's value, in the tier of its latest request; None without such a rule."""
        live = next((one for one in self._live if one.rule.key_header.lower() == header.lower()), None)
        if live is None:
            return None
        now = self._clock()
        windows = await self._windows(live, header_key(value), now)
        tier, newest = live.rule.default_tier, SlidingWindow(live.limits[live.rule.default_tier].seconds)
        for name, window in windows.items():
            if window.latest > newest.latest:
                tier, newest = name, window
        return Usage(live.rule.name, tier, live.limits[tier], newest.used, newest.resets_at(now))

    async def _windows(self, live: Live, key: str, now: float) -> dict[str, SlidingWindow]:
        """The windows of a key by tier."""
        return {name: live.window(name, key, now) for name in live.limits if (name, key) in live.windows}

    def samples(self) -> Iterable[Sample]:
        """Metrics of rejected requests by rule."""
        description = "Requests that a rate limit has refused."
        for live in self._live:
            yield Sample("bytebrew_rate_limited_total", live.refused, {"rule": live.rule.name}, "counter", description)

    async def change(self, work: Callable[..., T], *args: Any) -> T:
        """Changes the stored rules with `work(conn, ...)`, then the active ones."""

        def both(conn: Connection) -> tuple[T, list[Stored]]:
            return work(conn, *args), store.list_all(conn)

        result, rules = await self._engine.db.write(both)
        self.use(rules)
        return result

    def use(self, rules: Iterable[Stored]) -> None:
        """Activates these rules."""
        before = {live.id: live for live in self._live}
        self._live = [Live(stored, before.get(stored.id)) for stored in rules]
        self.guard.active = bool(self._live)

    def forget(self, keys: Iterable[str]) -> None:
        """Drops the counts of keys in memory; runs in the database's thread, and so changes one item at a time."""
        gone = {*keys}
        for live in self._live:
            for window in [one for one in list(live.windows) if one[1] in gone]:
                live.windows.pop(window, None)
            for entry in [one for one in list(live.unsaved) if one[1] in gone]:
                live.unsaved.pop(entry, None)

    async def load(self) -> None:
        """Loads rules and counts."""
        now = self._clock()
        self.use(await self._engine.db.read(store.list_all))
        live = {one.id: one for one in self._live}
        for counted in await self._engine.db.read(store.load, now):
            rule = live[counted.rule]
            if counted.tier in rule.limits:
                rule.window(counted.tier, counted.key, now).put(counted.entry)

    async def close(self) -> None:
        """Saves the remaining counts."""
        if self._saving is not None:
            self._saving.cancel()
        await self.save()

    async def save(self) -> None:
        """Saves counts since the last save."""
        now, rows = self._clock(), []
        prune = not 0 <= now - self._pruned < PRUNE_SECONDS
        for live in self._live:
            unsaved, live.unsaved = live.unsaved, {}
            for (tier, key, _), entry in unsaved.items():
                if tier in live.limits:
                    rows.append(Counted(live.id, tier, key, entry, entry.last + live.limits[tier].seconds))
            if prune:
                live.prune(now)
        if prune:
            self._pruned = now
        await self._engine.db.write(store.save, rows, now)

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_SECONDS)
        self._saving = None
        try:
            await self.save()
        except Exception:
            log.exception("a second's counts of the rate limits are not saved; they hold until a restart")


LIMITS = StateKey[Limits]("rate_limits")


def counts(request: Request[Any], route: Route) -> bool:
    """Whether a request counts under the rules that apply to it; a repeat of an Idempotency-Key does not."""
    if route.scope not in SCOPES or request.repeats or OPEN.search(route.path):
        return False
    return route.counts is None or route.counts(request)


def network_of(address: str) -> str:
    """The address block of one client: an IPv4 address or an IPv6 /64, within which it can change its address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def subject_key(subject: str) -> str:
    """The key for a subject."""
    return f"subject {subject}"


def header_key(value: str) -> str:
    """The key for a header's value, hashed, as it may be a credential; never equal to a subject's or an address's."""
    return f"header {hashlib.sha256(value.encode()).hexdigest()}"


def refusal(rule: str, requests: int, window: SlidingWindow, now: float) -> RateLimited:
    """The error of a request beyond a limit."""
    wait = max(1, math.ceil(window.wait(requests, now)))
    message = f"Rate limit exceeded: '{rule}' allows {requests} requests in {uptime(window.seconds)}"
    headers = headers_of(requests, 0, now + wait)
    return RateLimited(f"{message}; try again in {wait} s", wait, headers)


def headers_of(limit: int, remaining: int, reset: float) -> dict[str, str]:
    """The headers that say where a limit stands."""
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(math.ceil(reset)),
    }
