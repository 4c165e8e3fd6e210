"""Actors and scopes, without an engine."""

import re

import pytest
from bytebrew_tokens.mode import token_hash
from bytebrew_tokens.store import new_token
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import Forbidden
from bytebrew.contract.auth import Actor, Scope, Scopes
from bytebrew.contract.route import ANYONE
from bytebrew.web.access import check_schema, check_scope
from tests.tables import BINDABLE, SCOPES, known_scopes

KNOWN = known_scopes()
EVERY = sorted(KNOWN)
SOME = st.frozensets(st.sampled_from(EVERY))


def actor(*scopes: str, schemas: tuple[str, ...] | None = None) -> Actor:
    return Actor(subject="token:1", name="ci", kind="token", scopes=frozenset(scopes), schemas=schemas)


def test_the_scopes_of_the_api_reference_have_the_bits_of_the_original() -> None:
    assert list(SCOPES.items()) == [(scope.name, scope.bit) for scope in KNOWN.values()]
    assert not {1024, 2048} & {*SCOPES.values()}  # its triggers, which are gone
    assert KNOWN.bindable == BINDABLE


def test_every_scope_has_a_bit_of_its_own() -> None:
    assert sum(SCOPES.values()) == sum(1 << n for n in range(64) if 1 << n in SCOPES.values())
    assert len(set(SCOPES.values())) == len(SCOPES)


def test_an_alias_that_is_a_scope_grants_that_scope_alone() -> None:
    known = Scopes([Scope(name="chat", bit=1), Scope(name="dice", bit=2, aliases=("chat", "games"))])
    assert known.parse(["chat"]) == {"chat"}
    assert known.parse(["games"]) == {"dice"}


def test_a_scope_of_a_plugin_that_is_not_loaded_has_no_bit() -> None:
    assert KNOWN.mask(["chat", "gone"]) == 1


@given(SOME, SOME)
def test_names_and_a_mask_add_up(named: frozenset[str], masked: frozenset[str]) -> None:
    assert KNOWN.parse(named, KNOWN.mask(masked)) == named | masked


@given(st.integers(0, 2**31))
def test_a_mask_is_scopes_or_an_error(mask: int) -> None:
    if mask & ~sum(SCOPES.values()):
        with pytest.raises(ValueError, match=str(mask)):
            KNOWN.parse([], mask)
    else:
        assert KNOWN.mask(KNOWN.parse([], mask)) == mask


@given(st.text())
def test_a_name_is_a_scope_or_an_error(name: str) -> None:
    try:
        assert KNOWN.parse([name]) <= SCOPES.keys()
    except ValueError as error:
        assert name in str(error)


@pytest.mark.parametrize("scope", EVERY)
def test_a_scope_allows_itself_alone(scope: str) -> None:
    holder = actor(scope)
    for wanted in EVERY:
        if wanted == scope or scope == "admin":
            check_scope(holder, wanted, KNOWN)
        else:
            with pytest.raises(Forbidden, match=f"^Token does not have '{wanted}' scope$"):
                check_scope(holder, wanted, KNOWN)


def test_to_write_is_not_to_read() -> None:
    assert KNOWN.parse(["agents:write"]) == {"agents:write"}


def test_an_alias_reads_and_never_writes() -> None:
    for alias in ("agents", "models", "mcp", "schemas", "api"):
        assert KNOWN.parse([alias])
        assert not {scope for scope in KNOWN.parse([alias]) if scope.endswith(":write") or scope in ("admin", "config")}


@given(SOME)
def test_an_admin_is_who_has_the_scope(scopes: frozenset[str]) -> None:
    assert actor(*scopes).is_admin == ("admin" in scopes)


def test_anyone_may_do_nothing() -> None:
    assert not ANYONE.is_admin
    for scope in EVERY:
        with pytest.raises(Forbidden):
            check_scope(ANYONE, scope, KNOWN)


@pytest.mark.parametrize(
    ("schemas", "good"), [(None, True), (("shop",), True), (("a", "shop"), True), (("shops",), False), ((), False)]
)
def test_a_bound_actor_chats_with_its_schemas(schemas: tuple[str, ...] | None, good: bool) -> None:
    if good:
        check_schema(actor("chat", schemas=schemas), "shop")
    else:
        with pytest.raises(Forbidden, match="'shop'"):
            check_schema(actor("chat", schemas=schemas), "shop")


def test_a_new_token_is_long_and_never_the_same() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"bb_[0-9a-f]{64}", token) for token in made)


def test_a_token_is_stored_as_sha_256() -> None:
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
