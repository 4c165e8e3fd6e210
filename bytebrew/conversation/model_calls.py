"""Calls models: retries, fallback models, circuit breakers and prices."""

import logging
import random
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from urllib.parse import urlsplit

import anyio
from msgspec import Struct
from msgspec.structs import astuple, replace

from bytebrew.base.circuit_breaker import Breaker
from bytebrew.base.errors import Detail, EngineError, InvalidRequest, ProviderError, Unprocessable
from bytebrew.base.http_client.client import Http, UpstreamError
from bytebrew.base.masking import masked
from bytebrew.base.rolling_timeout import within
from bytebrew.base.secrets import Secrets
from bytebrew.contract.catalog import CatalogModel
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.governance.spending import SpendGuard
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Spent, Stop, ToolCall, Usage
from bytebrew.contract.provider import Provider, ProviderEvent, Target, refusal

log = logging.getLogger(__name__)


class Price(Struct, frozen=True, kw_only=True):
    """US dollars per million tokens.

    Tokens read from a cache, or written to one, cost as much as other input unless they have their own price. The price
    applies to the vendor at `base_url`.
    """

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None
    base_url: str = ""

    def of(self, usage: Usage) -> float:
        """The cost of some usage in US dollars."""
        read = min(usage.cached_tokens, usage.input_tokens)  # some vendors report more than input_tokens
        written = min(usage.cache_write_tokens, usage.input_tokens - read)
        cost = (usage.input_tokens - read - written) * self.input + usage.output_tokens * self.output
        cost += read * (self.input if self.cached is None else self.cached)
        cost += written * (self.input if self.cache_write is None else self.cache_write)
        return cost / 1_000_000

    def counts_at(self, base_url: str) -> bool:
        """Whether a base URL has the origin of the vendor with this price."""
        return _origin(base_url) == _origin(self.base_url)


def of_catalog(catalog: Iterable[CatalogModel], vendors: Mapping[str, str]) -> dict[str, Price]:
    """The catalog's prices by model; `vendors` are base URLs by the vendor's name.

    The price of a vendor without a base URL applies to models whose provider has none either.
    """
    return {
        model.id: Price(
            input=model.pricing_input,
            output=model.pricing_output,
            cached=model.pricing_cached,
            cache_write=model.pricing_cache_write,
            base_url=vendors.get(model.provider, ""),
        )
        for model in catalog
    }


def _origin(url: str) -> tuple[str, str | None, int]:
    """The origin of a URL (RFC 6454 section 4)."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # such as a port above 65535
        return url, None, 0


_PIECES = (MessageDelta, Thinking)
LONGEST_WAIT = 60.0
"""Longest wait before a retry, in seconds; a call fails if the vendor asks for more."""


async def stream_answer(
    provider: Provider, request: ModelRequest, http: Http, *, retries: int
) -> AsyncGenerator[ProviderEvent, None]:
    """A provider's events; failures before the first event are retried with backoff and jitter.

    Raises ProviderError if the answer exceeds the request's bounds.
    """
    tries, bounds = 0, request.bounds
    while True:
        begun = False
        stopped = False
        taken = calls = 0
        try:
            async with aclosing(provider.stream(request, http)) as events:
                async for event in events:
                    begun = True
                    if (size := _size(event)) < 0:
                        raise ProviderError(f"Provider '{provider.type}' told {event!r:.200}, which is no event")
                    taken += size
                    if taken > bounds.answer_bytes:
                        raise bounds.too_long()
                    if not size:
                        stopped = stopped or type(event) is Stop
                        calls += type(event) is ToolCall
                        if calls > bounds.tool_calls:
                            raise bounds.too_many_calls()
                    yield event
            if stopped:
                return
            raise ProviderError(f"{provider.type} ended its answer without saying why", code="model_unavailable")
        except UpstreamError as error:
            failure = refusal(error)
        except ProviderError as error:
            failure = error
        except RecursionError:
            failure = ProviderError("The vendor sent JSON that is nested too deeply to be read")
        wait = failure.retry_after
        if wait is None:
            # jitter, so that turns that failed together do not retry together
            wait = min(8.0, 0.5 * 2**tries) * random.uniform(0.5, 1.0)  # noqa: S311
        if begun or not failure.retry or tries >= retries or not wait <= LONGEST_WAIT:
            raise _reported(failure, request.api_key, tries + 1, begun=begun) from failure.__cause__
        tries += 1
        await anyio.sleep(wait)


def _size(event: object) -> int:
    """The size of a text or thinking event in bytes, 0 for other events.

    -1 for an event that cannot be stored and sent, such as one of a faulty provider plugin.
    """
    if isinstance(event, _PIECES):
        text = event.content
        if not isinstance(text, str):
            return -1
        if text.isascii():
            return len(text)
        try:
            return len(text.encode())
        except UnicodeEncodeError:
            return -1
    if isinstance(event, ToolCall):
        sound = all(isinstance(text, str) for text in (event.tool, event.call_id)) and isinstance(event.input, dict)
        return 0 if sound else -1
    return 0 if isinstance(event, (Usage, Stop)) else -1


def _reported(error: ProviderError, key: str, tries: int, *, begun: bool = False) -> ProviderError:
    """The error with the key masked in its message, with the number of tries, and whether the answer had begun."""
    message = masked(error.message, key)
    if message != error.message:
        error = ProviderError(message, code=error.code, retry=error.retry, retry_after=error.retry_after)
    error.tries, error.begun = tries, begun
    return error


class BoundModel(Struct, frozen=True, kw_only=True):
    """A model ready to be called: with its provider, its decrypted key and its fallback models.

    `window` is the context window in tokens, as stored or as a vendor's error stated it.
    """

    name: str
    provider: Provider
    base: ModelRequest
    price: Price | None = None
    own_key: bool = False
    window: int | None = None
    fallback: "tuple[BoundModel, ...]" = ()

    def addressed(self, request: ModelRequest) -> ModelRequest:
        """The request with this model's name, URL and key."""
        base = self.base
        if request.response_format is not None and not self.provider.capabilities.structured:
            request = replace(request, system=request.instructed_system, response_format=None)
        return replace(
            request,
            model_name=base.model_name,
            base_url=base.base_url,
            api_key=base.api_key,
            api_version=base.api_version,
            bounds=base.bounds,
        )

    @property
    def highest_price(self) -> tuple[float, float] | None:
        """The most that a million tokens of input and of output cost in US dollars; None if no price is known."""
        if self.provider.demo:
            return 0.0, 0.0
        if (price := self.price) is None:
            return None
        return max(price.input, price.cached or 0.0, price.cache_write or 0.0), price.output

    def room(self, agent: Agent) -> int:
        """Limit on the tokens of an agent's messages: the smaller of its own limit and the model's context window."""
        if self.window is None:
            return agent.max_context_size
        return min(agent.max_context_size, self.window - min(agent.max_tokens or 0, self.window // 2))

    def check(self, attachments: Sequence[Attachment]) -> None:
        """Raises InvalidRequest if the model does not support one of a message's attachments."""
        for n, attachment in enumerate(attachments):
            if not self.provider.capabilities.carries(attachment):
                fault = f"the agent's model takes no {attachment.media_type}"  # unnamed: the public may read it
                raise InvalidRequest(
                    f"An attachment cannot be seen: {fault}", details=[Detail(f"$.attachments[{n}]", fault)]
                )


Answered = Thinking | MessageDelta | ToolCall | Spent | Stop


MOST_TOKENS = 10**8
"""Upper bound on token counts reported by a vendor, so that sums fit into a database column."""
ELSEWHERE = frozenset({"model_rate_limited", "model_overloaded", "model_unavailable", "model_timeout"})
"""Error codes after which a fallback model is called: neither the request nor the key is the cause."""
_BROKEN = ELSEWHERE - {"model_rate_limited"}
TOO_LONG = "model_context_too_long"


class Models:
    """Prepares stored models for calls, and calls them, with a circuit breaker per failing model.

    Turns call them by `Turn.call`, which has the `guards` reserve what a call may cost.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        secrets: Secrets,
        prices: Mapping[str, Price],
        http: Http,
        retries: int,
        guards: Sequence[SpendGuard] = (),
    ) -> None:
        self._providers = providers
        self._secrets = secrets
        self._prices = prices
        self._http = http
        self._retries = retries
        self.guards = guards
        self.breakers: dict[str, Breaker] = {}

    def bind(self, target: Target, fallback: Sequence[Target] = (), *, key: str = "") -> BoundModel:
        """The target with its provider, and its stored key unless another is passed; Unprocessable without provider."""
        provider = self._providers.get(target.type)
        if provider is None:
            message = f"Model '{target.name}' is of type '{target.type}', for which no plugin is loaded"
            raise Unprocessable(message, code="provider_missing")
        base = ModelRequest(
            model_name=target.model_name,
            base_url=(target.base_url or provider.base_url).rstrip("/"),
            api_key=key or (self._secrets.open(target.sealed_key) if target.sealed_key else ""),
            api_version=target.api_version,
            bounds=self._http.bounds,
        )
        price = self._prices.get(target.model_name)
        if price is not None and not price.counts_at(base.base_url):
            price = None
        if target.pricing_input is not None and target.pricing_output is not None:
            price = Price(input=target.pricing_input, output=target.pricing_output)
        return BoundModel(
            name=target.name,
            provider=provider,
            base=base,
            price=price,
            own_key=bool(key),
            window=target.context_window,
            fallback=tuple(self._bound(fallback)),
        )

    async def embed(self, target: Target, texts: Sequence[str], *, seconds: float) -> list[list[float]]:
        """A vector for each text, in order; if that fails, ProviderError with the key masked in its message."""
        try:
            model = self.bind(target)
        except EngineError as error:
            raise ProviderError(error.message, code="model_bad_request") from error
        try:
            with within(seconds):
                return await model.provider.embed(texts, model.base, self._http)
        except TimeoutError:
            raise ProviderError(f"No embeddings within {seconds:g} s", code="model_timeout", retry=True) from None
        except UpstreamError as error:
            failure = refusal(error)
        except ProviderError as error:
            failure = error
        except EngineError as error:  # a plugin's provider may raise others; callers continue without embeddings
            failure = ProviderError(error.message, code="model_bad_request")
        raise _reported(failure, model.base.api_key, 1)

    def _bound(self, fallback: Sequence[Target]) -> Iterator[BoundModel]:
        for target in fallback:
            try:
                yield self.bind(target)
            except Unprocessable as error:  # a misconfigured fallback does not break a working model
                log.warning("model %s cannot be a fallback: %s", target.name, error)

    def answer(self, model: BoundModel, request: ModelRequest) -> AsyncGenerator[Answered, None]:
        """The model's events; if it fails before its first event, those of the first fallback that answers."""
        return self._first_of(model, request) if model.fallback else self._call(model, request)

    async def _first_of(self, model: BoundModel, request: ModelRequest) -> AsyncGenerator[Answered, None]:
        failure: ProviderError | None = None
        for candidate in (model, *model.fallback):
            if candidate is not model and not _carried(candidate, request.messages):
                continue
            begun = False
            try:
                async with aclosing(self._call(candidate, request)) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except ProviderError as error:
                failure = failure or error
                if begun or (candidate is model and error.code not in ELSEWHERE):
                    raise
                if error.code == TOO_LONG:
                    failure.too_long = failure.too_long or (candidate.name, error)
                log.warning("model %s failed before its first token: %s", candidate.name, error)
        if failure is not None:
            raise failure

    async def _call(self, model: BoundModel, request: ModelRequest) -> AsyncGenerator[Answered, None]:
        breaker = None if model.own_key else self.breakers.get(model.name)  # failures of a caller's own key are theirs
        tries = breaker is not None and breaker.state == "half_open"
        if breaker is not None and not breaker.allows():
            message = (
                f"Model '{model.name}' has failed {breaker.failure_count} times; it is tried again within a minute"
            )
            raise ProviderError(message, code="model_unavailable", retry_after=max(1.0, breaker.remaining()))
        called = model.provider.type, model.base.model_name, time.time()
        counted, begun = False, 0.0
        try:
            events = stream_answer(model.provider, model.addressed(request), self._http, retries=self._retries)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Usage):
                        counted = True
                        usage = Usage(*(min(max(0, count), MOST_TOKENS) for count in astuple(event)[:-1]))
                        cost = model.price.of(usage) if model.price else None
                        usage = replace(usage, cost_usd=cost)
                        yield Spent(model.name, usage, *called, time.time(), first_token_at=begun)
                    else:
                        if type(event) is Stop and not counted:  # the vendor counts no tokens: the call is stored still
                            yield Spent(model.name, Usage(), *called, time.time(), first_token_at=begun)
                        begun = begun or time.time()
                        yield event
            if breaker is not None:
                breaker.succeeded()
                tries = False
        except ProviderError as error:
            if error.code in _BROKEN and not model.own_key:
                self.breakers.setdefault(model.name, Breaker(5, 60, 30)).failed()
                tries = False
            raise
        finally:
            if breaker is not None and tries:
                breaker.released()


def _carried(model: BoundModel, messages: Sequence[Message]) -> bool:
    return all(model.provider.capabilities.carries(file) for message in messages for file in message.attachments)
