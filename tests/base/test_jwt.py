"""Ed25519 JWTs: what is signed comes back, and nothing else gets in."""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from bytebrew.base.jwt import MAX_LENGTH, BadToken, read_public_keys, sign, thumbprint, verify
from tests.forged import EDDSA, SPKI, b64url, confused, forgeries, jwk, jws, pem, signing_input

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(32, 64)))
KEYS = {"": KEY.verify_key}
CLAIMS = {"sub": "ada", "exp": 1000}
TOKEN = sign(CLAIMS, KEY)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def accepted(token: str, keys: Mapping[str, Any] = KEYS, **wanted: Any) -> bool:
    try:
        verify(token, keys, now=0, **wanted)
    except BadToken:
        return False
    return True


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text(max_size=10).filter(lambda name: name not in ("exp", "nbf")), JSON, max_size=6))
def test_what_was_signed_comes_back(claims: dict[str, Any]) -> None:
    token = sign({**claims, "exp": 1000}, KEY)
    assume(len(token) <= MAX_LENGTH)
    assert verify(token, KEYS, now=999) == {**claims, "exp": 1000}


@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_one_changed_character_spoils_a_token(at: int, character: str) -> None:
    assume(TOKEN[at] != character)
    assert not accepted(TOKEN[:at] + character + TOKEN[at + 1 :])


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(TOKEN)), st.text(min_size=1, max_size=4))
def test_an_inserted_text_spoils_a_token(at: int, text: str) -> None:
    assert not accepted(TOKEN[:at] + text + TOKEN[at:])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 8))
def test_a_left_out_text_spoils_a_token(at: int, count: int) -> None:
    assert not accepted(TOKEN[:at] + TOKEN[at + count :])


@settings(deadline=None, max_examples=200)
@given(st.text() | st.binary().map(b64url) | st.lists(st.binary().map(b64url), min_size=3, max_size=3).map(".".join))
def test_any_other_text_is_a_bad_token_and_no_other_error(text: str) -> None:
    assert not accepted(text)


def test_base64url_has_one_spelling() -> None:
    head, body, tail = TOKEN.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(tail[-1])
    for spare in range(1, 16):  # 64 bytes leave 4 spare bits in the last character
        twin = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ spare]
        assert not accepted(f"{head}.{body}.{tail[:-1]}{twin}")
    assert not accepted(f"{head}.{body}.{tail}==")
    assert not accepted(TOKEN.replace("-", "+").replace("_", "/") + "\n")


@pytest.mark.parametrize("fault", forgeries({"sub": "ada"}, KEY))
def test_a_forgery_is_refused(fault: str) -> None:
    with pytest.raises(BadToken):
        verify(forgeries({"sub": "ada"}, KEY)[fault], KEYS)


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "ES256", "EdDsa", "Ed448", "", 1, None, ["EdDSA"]])
def test_every_other_algorithm_is_refused_though_the_signature_is_good(alg: Any) -> None:
    assert accepted(jws({"alg": "EdDSA"}, CLAIMS, KEY))
    assert not accepted(jws({"alg": alg}, CLAIMS, KEY))


def test_the_algorithm_may_go_by_its_newer_name() -> None:
    assert accepted(jws({"alg": "Ed25519"}, CLAIMS, KEY))


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    assert not any(accepted(token) for token in confused(CLAIMS, KEY.verify_key))


@pytest.mark.parametrize(
    "weak", ["00" * 32, "01" + "00" * 31, "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"]
)
def test_a_key_of_small_order_verifies_nothing(weak: str) -> None:
    text = signing_input(EDDSA, CLAIMS)
    for signature in (bytes(64), bytes.fromhex(weak) + bytes(32), b"\x01" + bytes(63)):
        assert not accepted(f"{text}.{b64url(signature)}", read_public_keys(weak))


@pytest.mark.parametrize("header", [[], "EdDSA", 1, None, {}])
def test_a_header_that_is_no_object_with_an_algorithm_is_refused(header: Any) -> None:
    assert not accepted(jws(header, CLAIMS, KEY))


@pytest.mark.parametrize("claims", [[], "ada", 1, None])
def test_claims_that_are_no_object_are_refused(claims: Any) -> None:
    assert not accepted(jws(EDDSA, claims, KEY))


def test_a_part_that_is_nested_without_end_is_a_bad_token() -> None:
    deep = b64url(b'{"a":' * 900 + b"1" + b"}" * 900)
    assert not accepted(f"{deep}.{deep}.AA")


@pytest.mark.parametrize(
    ("now", "good"), [(0, True), (1000, True), (1059.9, True), (1060, False), (1060.1, False), (10**9, False)]
)
def test_a_token_lives_until_exp_and_the_leeway(now: float, good: bool) -> None:
    if good:
        assert verify(TOKEN, KEYS, now=now) == CLAIMS
    else:
        with pytest.raises(BadToken, match="expired"):
            verify(TOKEN, KEYS, now=now)


@pytest.mark.parametrize(("now", "good"), [(999.9, True), (1000, False)])
def test_no_leeway_is_none(now: float, good: bool) -> None:
    if good:
        verify(TOKEN, KEYS, now=now, leeway=0)
    else:
        with pytest.raises(BadToken, match="expired"):
            verify(TOKEN, KEYS, now=now, leeway=0)


@pytest.mark.parametrize(("now", "good"), [(939.9, False), (940, True), (1000, True)])
def test_a_token_is_not_valid_before_nbf_less_the_leeway(now: float, good: bool) -> None:
    token = sign({"exp": 9000, "nbf": 1000}, KEY)
    if good:
        verify(token, KEYS, now=now)
    else:
        with pytest.raises(BadToken, match="not valid yet"):
            verify(token, KEYS, now=now)


@pytest.mark.parametrize("exp", [None, "1000", True, [1000], {}])
def test_exp_is_a_number(exp: Any) -> None:
    with pytest.raises(BadToken, match="exp"):
        verify(sign({"exp": exp}, KEY), KEYS, now=0)


@pytest.mark.parametrize("nbf", ["0", False, [0], {}])
def test_nbf_is_a_number_where_it_is_there(nbf: Any) -> None:
    with pytest.raises(BadToken, match="nbf"):
        verify(sign({"exp": 1000, "nbf": nbf}, KEY), KEYS, now=0)


def test_a_moment_may_be_a_fraction_or_lie_beyond_all_floats() -> None:
    huge = b"1" + b"0" * 400
    token = jws(EDDSA, msgspec.Raw(b'{"exp":%s,"nbf":0.5}' % huge), KEY)
    assert verify(token, KEYS, now=1)["nbf"] == 0.5
    with pytest.raises(BadToken, match="not valid yet"):
        verify(jws(EDDSA, msgspec.Raw(b'{"exp":1000,"nbf":%s}' % huge), KEY), KEYS, now=0)


def test_a_kid_chooses_its_key_alone() -> None:
    keys = {"old": KEY.verify_key, "new": OTHER.verify_key}
    assert accepted(sign(CLAIMS, KEY, "old"), keys)
    assert accepted(sign(CLAIMS, OTHER, "new"), keys)
    assert not accepted(sign(CLAIMS, KEY, "new"), keys)
    assert not accepted(sign(CLAIMS, KEY, "elsewhere"), keys)


def test_a_token_without_a_kid_may_be_by_any_live_key() -> None:
    keys = {"old": KEY.verify_key, "new": OTHER.verify_key}
    assert accepted(sign(CLAIMS, KEY), keys)
    assert accepted(sign(CLAIMS, OTHER), keys)
    assert not accepted(sign(CLAIMS, SigningKey.generate()), keys)


def test_a_key_without_a_kid_answers_to_any() -> None:
    keys = read_public_keys(bytes(KEY.verify_key).hex())
    assert accepted(sign(CLAIMS, KEY, "whatever"), keys)
    assert accepted(jws({**EDDSA, "kid": 7}, CLAIMS, KEY), keys)


def test_a_retired_key_verifies_no_more() -> None:
    both = read_public_keys(f"{bytes(KEY.verify_key).hex()}\n{bytes(OTHER.verify_key).hex()}\n")
    assert accepted(sign(CLAIMS, KEY), both)
    assert accepted(sign(CLAIMS, OTHER), both)
    assert not accepted(sign(CLAIMS, KEY), read_public_keys(bytes(OTHER.verify_key).hex()))


def test_without_a_key_nothing_is_good() -> None:
    assert not accepted(TOKEN, {})


@pytest.mark.parametrize("iss", [None, "", "https://other", "https://idp/", ["https://idp"]])
def test_an_issuer_that_is_wanted_must_match(iss: Any) -> None:
    assert accepted(sign({**CLAIMS, "iss": "https://idp"}, KEY), issuer="https://idp")
    assert not accepted(sign({**CLAIMS, "iss": iss}, KEY), issuer="https://idp")
    assert not accepted(TOKEN, issuer="https://idp")


@pytest.mark.parametrize("aud", [None, "", "other", "bytebrew ", [], ["other"], {"bytebrew": 1}, [["bytebrew"]]])
def test_an_audience_that_is_wanted_must_be_among_the_tokens(aud: Any) -> None:
    assert accepted(sign({**CLAIMS, "aud": "bytebrew"}, KEY), audience="bytebrew")
    assert accepted(sign({**CLAIMS, "aud": ["other", "bytebrew"]}, KEY), audience="bytebrew")
    assert not accepted(sign({**CLAIMS, "aud": aud}, KEY), audience="bytebrew")
    assert not accepted(TOKEN, audience="bytebrew")


# RFC 8037, appendix A: one key, its thumbprint, and a JWS over a payload that is no JSON.
RFC_SEED = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
RFC_INPUT = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
RFC_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"


def test_the_signature_of_rfc_8037_is_recognised() -> None:
    keys = read_public_keys(msgspec.json.encode({"kty": "OKP", "crv": "Ed25519", "x": RFC_X}).decode())
    assert list(keys) == [RFC_THUMBPRINT]
    with pytest.raises(BadToken, match="no JSON object"):  # the signature is good, and the payload no set of claims
        verify(f"{RFC_INPUT}.{RFC_SIGNATURE}", keys)
    with pytest.raises(BadToken, match="signature"):
        verify(f"{RFC_INPUT}.{RFC_SIGNATURE[:-2]}Ag".replace("hgyY", "hgyZ"), keys)


def test_we_sign_as_rfc_8037_does() -> None:
    key = SigningKey(base64.urlsafe_b64decode(RFC_SEED + "="))
    assert b64url(bytes(key.verify_key)) == RFC_X
    assert b64url(key.sign(RFC_INPUT.encode()).signature) == RFC_SIGNATURE
    text, _, tail = sign(CLAIMS, key).rpartition(".")
    assert b64url(key.sign(text.encode()).signature) == tail


def test_a_token_says_what_it_is() -> None:
    head, body, _ = sign(CLAIMS, KEY, "k1").split(".")
    assert msgspec.json.decode(base64.urlsafe_b64decode(head + "==")) == {"alg": "EdDSA", "typ": "JWT", "kid": "k1"}
    assert msgspec.json.decode(base64.urlsafe_b64decode(body + "==")) == CLAIMS


A, B = KEY.verify_key, OTHER.verify_key
HEX_A, HEX_B = bytes(A).hex(), bytes(B).hex()
JWKS = msgspec.json.encode(
    {
        "keys": [
            {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": "AA", "y": "AA"},
            {"kty": "OKP", "crv": "X25519", "kid": "dh", "x": b64url(bytes(B))},
            jwk(A, kid="one", use="sig", alg="EdDSA"),
            jwk(B),
        ]
    }
).decode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEX_A, {thumbprint(A): A}),
        (f"{HEX_A}\n", {thumbprint(A): A}),
        (f"\n {HEX_A.upper()}\r\n{HEX_B}\n\n", {thumbprint(A): A, thumbprint(B): B}),
        (pem(A), {thumbprint(A): A}),
        (f"issued in May\n{pem(A)}\n{pem(B)}", {thumbprint(A): A, thumbprint(B): B}),
        (pem(A).replace("\n", "\r\n"), {thumbprint(A): A}),
        (msgspec.json.encode(jwk(A)).decode(), {thumbprint(A): A}),
        (msgspec.json.encode(jwk(A, kid="one")).decode(), {"one": A}),
        (JWKS, {"one": A, thumbprint(B): B}),
    ],
)
def test_public_keys_are_read_in_every_form(text: str, found: dict[str, VerifyKey]) -> None:
    assert read_public_keys(text) == found


def test_a_pem_of_rfc_8410_is_read() -> None:
    line = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    [key] = read_public_keys(f"-----BEGIN PUBLIC KEY-----\n{line}\n-----END PUBLIC KEY-----").values()
    assert isinstance(key, VerifyKey)
    assert bytes(key).hex() == "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"


def block(name: str, der: bytes) -> str:
    return f"-----BEGIN {name}-----\n{base64.b64encode(der).decode()}\n-----END {name}-----\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "hello",
        HEX_A[:-2],
        HEX_A + "00",
        f"{HEX_A}\n{HEX_B[:-1]}",
        f"{HEX_A} # a comment",
        (bytes(KEY) + bytes(A)).hex(),  # the engine's own .priv file
        block("PRIVATE KEY", bytes.fromhex("302e020100300506032b657004220420") + bytes(KEY)),
        block("CERTIFICATE", b"x" * 300),
        f"{pem(A)}{block('PRIVATE KEY', bytes(48))}",
        pem(A) + pem(B)[:40],
        block("PUBLIC KEY", bytes(A)),
        block("PUBLIC KEY", bytes.fromhex("302a300506032b656e032100") + bytes(A)),  # X25519
        block("PUBLIC KEY", SPKI + bytes(31)),
        block("PUBLIC KEY", SPKI + bytes(33)),
        "-----BEGIN PUBLIC KEY-----\nM\n-----END PUBLIC KEY-----",
        "{",
        "{}",
        "[]",
        '{"keys": []}',
        '{"keys": null}',
        '{"keys": "abc"}',
        '{"keys": [1]}',
        '{"keys": {"kty": "OKP"}}',
        '{"kty": "RSA", "n": "AQAB", "e": "AQAB"}',
        '{"kty": "OKP", "crv": "Ed25519"}',
        '{"kty": "OKP", "crv": "Ed25519", "x": 5}',
        '{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}',
        '{"kty": "OKP", "crv": "Ed25519", "x": "\u00fc"}',
        '{"kty": "OKP", "crv": "Ed448", "x": "AAAA"}',
    ],
)
def test_what_is_no_public_key_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_public_keys(text)


@settings(deadline=None, max_examples=200)
@given(st.text() | st.binary().map(bytes.hex) | JSON.map(lambda value: msgspec.json.encode(value).decode()))
def test_any_text_is_keys_or_a_value_error(text: str) -> None:
    try:
        assert read_public_keys(text)
    except ValueError as error:
        assert str(error)
