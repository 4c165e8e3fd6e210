"""The worker that delivers: signed, at least once, with backoff, some receivers beside each other."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial

import msgspec

from bytebrew import (
    Connection,
    Engine,
    EngineError,
    InvalidRequest,
    ProviderError,
    Sample,
    StateKey,
    StorageError,
    parse_time,
    resolved,
    visible,
    webhook_key,
    webhook_signature,
)

from . import store
from .definition import CallbackSettings, Policy
from .store import PER_RECEIVER, Backlog, Due

log = logging.getLogger(__name__)

SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds from each failed try to the next, as in the example of Standard Webhooks: ten tries in three days."""
JITTER = 0.2
"""Largest share that is added to a delay at random."""
LONGEST_WAIT = 86400.0
"""Longest Retry-After that is honoured, in seconds."""
MOST = 32
"""Most tries at a time."""
EXCERPT = 300
"""Bytes of a failed answer that are kept."""
LONGEST_SLEEP = 60.0
"""Longest sleep in seconds while something is pending, because the clock may be set."""
PAUSE = 1.0
"""Seconds between two attempts to store or to read, while the database does not serve."""
LEAVE_SECONDS = 3.0
"""How long a stopping engine waits for tries that are under way; the others are tried again at the next start."""
GONE = 410


DUTY = "callbacks"


class Failure(Exception):
    """A try that failed: with the status of an answer, and the seconds that its Retry-After asks for, if any."""

    def __init__(self, message: str, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.wait = status, wait


class Deliveries:
    """Sends what is due; woken by what is written, and by the time of the next try."""

    def __init__(self, engine: Engine, clock: Callable[[], float], schedule: Sequence[float]) -> None:
        self._engine, self._clock, self._schedule = engine, clock, schedule
        settings = engine.settings.of(CallbackSettings)
        self.policy = Policy(settings.callback_origins)
        self._seconds, self._default = settings.callback_timeout, settings.callback_secret
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trying: dict[str, asyncio.Task[None]] = {}  # by the delivery's id
        self._busy: Counter[str] = Counter()  # tries by receiver
        self._backlog = Backlog()

    def start(self) -> None:
        """Delivers while this node leads, beginning with what an earlier engine left pending."""
        self._loop = asyncio.get_running_loop()
        self._engine.duties.add(DUTY, self._work, self._woken.set)

    async def stop(self) -> None:
        """Waits a little for the tries under way."""
        self._loop = None
        if self._trying:
            _, left = await asyncio.wait(self._trying.values(), timeout=LEAVE_SECONDS)
            for one in left:
                one.cancel()
            if left:
                await asyncio.wait(left)

    def wake(self) -> None:
        """Looks for what is due once the transaction under way has ended; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._engine.duties.wake, DUTY)

    def samples(self) -> list[Sample]:
        """How much waits, and for how long."""
        oldest = self._backlog.oldest
        age = 0.0 if oldest is None else max(0.0, self._clock() - parse_time(oldest).timestamp())
        name = "bytebrew_callback_deliveries"
        help = "Deliveries of callbacks that wait, or that were given up"
        return [
            Sample(name, self._backlog.pending, {"status": "pending"}, help=help),
            Sample(name, self._backlog.dead, {"status": "dead"}, help=help),
            Sample("bytebrew_callback_oldest_seconds", age, help="Age of the oldest pending delivery of a callback"),
        ]

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                seconds = await self._start_due()
            except StorageError:
                seconds = PAUSE
            except Exception:
                log.exception("no callback could be taken up; trying again in a moment")
                seconds = PAUSE
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _start_due(self) -> float | None:
        """Starts what is due and has room; returns the seconds until more is due, None if nothing is."""
        moment = self._clock()
        # a write: it follows the transaction whose rows have woken it
        ready, self._backlog = await self._engine.db.write(store.look, moment)
        for due in ready:
            if len(self._trying) == MOST:
                break
            if due.id not in self._trying and self._busy[due.receiver] < PER_RECEIVER:
                self._busy[due.receiver] += 1
                self._trying[due.id] = asyncio.create_task(self._deliver(due), name=f"callback {due.id}")
        if self._backlog.next_at is None:
            return LONGEST_SLEEP if self._backlog.pending else None
        return max(0.01, min(self._backlog.next_at - moment, LONGEST_SLEEP))

    async def _deliver(self, due: Due) -> None:
        """Tries once, until what came of it is stored."""
        try:
            settle = await self._outcome(due)
            while True:
                try:
                    await self._engine.db.write(settle)
                    break
                except StorageError:
                    await asyncio.sleep(PAUSE)
        except Exception:
            log.exception("the delivery %s of a callback failed", due.id)
            await asyncio.sleep(PAUSE)
        finally:
            del self._trying[due.id]
            self._busy -= Counter((due.receiver,))
            self._woken.set()

    async def _outcome(self, due: Due) -> Callable[..., None]:
        """What to store after a try."""
        try:
            status = await self._try(due)
        except Failure as failure:
            error = str(failure)
            if failure.status == GONE and due.callback:
                log.warning("callback %s is disabled: its receiver answered 410", due.callback)
                return partial(_gone, due=due, error=error)
            last = failure.status == GONE or due.attempts >= len(self._schedule)
            if last:
                log.warning("the delivery %s to %s was given up: %s", due.id, due.receiver, error)
                next_at = None
            else:
                delay = self._schedule[due.attempts] * random.uniform(1, 1 + JITTER)  # noqa: S311
                next_at = self._clock() + max(delay, failure.wait)
            return partial(store.failed, due=due, status=failure.status, error=error, next_at=next_at)
        return partial(store.received, due=due, status=status)

    async def _try(self, due: Due) -> int:
        """Sends a delivery once; returns the status of the answer, raises Failure unless that is 2xx."""
        body, stamp = due.body.encode(), int(self._clock())
        try:
            self.policy.check(due.url, "$.url")
            signatures = " ".join(webhook_signature(key, due.id, stamp, body) for key in self._keys(due))
            headers = {"webhook-id": due.id, "webhook-timestamp": str(stamp), "webhook-signature": signatures}
            async with asyncio.timeout(self._seconds):
                answer = await self._engine.http.ask(
                    "POST",
                    due.url,
                    headers=headers,
                    json=msgspec.Raw(body),
                    public_only=not self.policy.is_listed(due.url),
                    limit=EXCERPT,
                )
        except TimeoutError as error:
            raise Failure(f"No answer within {self._seconds:g} s") from error
        except (EngineError, ProviderError) as error:
            raise Failure(str(error)[: 2 * EXCERPT]) from error
        if 200 <= answer.status < 300:
            return answer.status
        excerpt = visible(answer.body.decode("utf-8", "replace"))
        reason = f"HTTP {answer.status}: {excerpt}" if excerpt else f"HTTP {answer.status}"
        raise Failure(reason, answer.status, _retry_after(answer.headers, self._clock()))

    def _keys(self, due: Due) -> list[bytes]:
        """The keys that sign a delivery; EngineError if one is not there."""
        if not due.callback:
            if not self._default:
                raise InvalidRequest("BYTEBREW_CALLBACK_SECRET is not set any more")
            return [webhook_key(secret) for secret in self._default]
        try:
            return [webhook_key(resolved(self._engine.secrets.open(sealed))) for sealed in due.sealed]
        except ValueError as error:
            raise InvalidRequest(f"The secret of the callback {error}") from error


def _gone(conn: Connection, due: Due, error: str) -> None:
    store.failed(conn, due, GONE, error, None)
    store.disable(conn, due.callback, "Its receiver answered 410 Gone")


def _retry_after(headers: Mapping[str, str], moment: float) -> float:
    """Seconds of a Retry-After, a number or a date (RFC 9110 section 10.2.3), within LONGEST_WAIT; 0 without one."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = (
            float(text) if text.isascii() and text.isdecimal() else parsedate_to_datetime(text).timestamp() - moment
        )
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)


DELIVERIES = StateKey[Deliveries]("deliveries of callbacks")
