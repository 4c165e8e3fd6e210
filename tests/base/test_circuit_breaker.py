"""The breaker: what it lets through, whatever its callers do and however long they take."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bytebrew.base.circuit_breaker import Breaker


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.moment = 100.0

    def __call__(self) -> float:
        return self.moment


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(3, 10, 5, clock=clock)
    for _ in range(3):
        breaker.failed()
    return breaker


class Callers(RuleBasedStateMachine):
    """Callers that come at any time and end in any order; `under_way` says of each whether it is the one that tries."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(3, 10, 5, clock=self.clock)
        self.under_way: list[bool] = []
        self.failures: list[float] = []

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.moment += seconds

    @rule()
    def one_asks(self) -> None:
        state = self.breaker.state
        allowed = self.breaker.allows()
        assert allowed is (state == "closed" or (state == "half_open" and not any(self.under_way)))
        if allowed:
            self.under_way.append(state == "half_open")

    @precondition(lambda self: self.under_way)
    @rule(oldest=st.booleans())
    def one_succeeds(self, oldest: bool) -> None:
        self.under_way.pop(0 if oldest else -1)
        self.breaker.succeeded()
        assert self.breaker.state == "closed"
        self.under_way = [False] * len(self.under_way)
        self.failures = []

    @precondition(lambda self: self.under_way)
    @rule(oldest=st.booleans())
    def one_fails(self, oldest: bool) -> None:
        before, trial = self.breaker.state, any(self.under_way)
        self.under_way.pop(0 if oldest else -1)
        self.failures.append(self.clock())
        self.breaker.failed()
        many = len(self.failures) >= 3 and self.failures[-1] - self.failures[-3] <= 10
        if many or trial:
            assert (self.breaker.state, self.breaker.remaining()) == ("open", 5)
        else:
            assert self.breaker.state == before
        self.under_way = [False] * len(self.under_way)

    @precondition(lambda self: self.under_way)
    @rule(oldest=st.booleans())
    def one_leaves(self, oldest: bool) -> None:
        before = self.breaker.state
        if self.under_way.pop(0 if oldest else -1):
            self.breaker.released()
        assert self.breaker.state == before

    @invariant()
    def one_at_most_tries(self) -> None:
        assert sum(self.under_way) <= 1
        assert self.breaker.failure_count == min(3, len(self.failures))
        assert 0 <= self.breaker.remaining() <= 5


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_it_opens_at_so_many_failures_within_the_time() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert (breaker.state, breaker.failure_count, breaker.allows()) == ("open", 3, False)
    clock.moment += 5
    assert breaker.state == "half_open"
    slow = Breaker(3, 10, 5, clock=clock)
    for _ in range(20):
        slow.failed()
        clock.moment += 5.1
        assert slow.state == "closed"


def test_a_success_in_between_begins_the_count_anew() -> None:
    breaker = Breaker(3, 10, 5, clock=Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows()


@pytest.mark.parametrize(("end", "state"), [("succeeded", "closed"), ("failed", "open"), ("released", "half_open")])
def test_after_the_wait_one_may_try_and_its_end_decides(end: str, state: str) -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.moment += 4.9
    assert not breaker.allows()
    clock.moment += 0.1
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    getattr(breaker, end)()
    assert breaker.state == state
    assert breaker.allows() is (state != "open")
