"""JWTs by RSA and P-256 keys: each key verifies by the one algorithm of its type, and by no other."""

import hashlib
import hmac
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.signing import SigningKey

from bytebrew.base.jwt import BadToken, UnknownKey, read_public_keys, sign, thumbprint, verify
from tests import forged
from tests.forged import b64url, signing_input
from tests.issuers import EC, RSA, Private, issued, jwk, jwks, pem, signature

ED = SigningKey(bytes(range(32)))
CLAIMS = {"sub": "ada", "exp": 1000}
KEYS = read_public_keys(jwks(jwk(RSA, kid="rsa"), jwk(EC, kid="ec"), forged.jwk(ED.verify_key, kid="ed")))
WEAK = rsa.generate_private_key(65537, 1024)
P384 = ec.generate_private_key(ec.SECP384R1())


def accepted(token: str, keys: Any = KEYS) -> bool:
    try:
        verify(token, keys, now=0)
    except BadToken:
        return False
    return True


@pytest.mark.parametrize(("key", "kid"), [(RSA, "rsa"), (EC, "ec")])
def test_a_key_verifies_what_it_signed(key: Private, kid: str) -> None:
    for token in (issued(CLAIMS, key, kid), issued(CLAIMS, key)):
        assert verify(token, KEYS, now=0) == CLAIMS
        head, body, tail = token.split(".")
        other = b64url(b'{"sub":"eve","exp":1000}')
        assert not accepted(f"{head}.{other}.{tail}")
        assert not accepted(f"{head}.{body}.{'B' if tail[0] == 'A' else 'A'}{tail[1:]}")
        assert not accepted(f"{head}.{body}.")
    assert sorted(KEYS) == ["ec", "ed", "rsa"]


@pytest.mark.parametrize(
    "form", [pem, lambda key: jwks(jwk(key)), lambda key: jwks(jwk(key)).removeprefix('{"keys":[')[:-2]]
)
@pytest.mark.parametrize("key", [RSA, EC])
def test_keys_are_read_in_each_form(key: Private, form: Any) -> None:
    [(name, public)] = read_public_keys(form(key)).items()
    assert name == thumbprint(public)
    assert accepted(issued(CLAIMS, key, "whatever"), {name: public})


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (RSA, "ES256"),
        (RSA, "EdDSA"),
        (RSA, "RS384"),
        (RSA, "PS256"),
        (RSA, "none"),
        (EC, "RS256"),
        (EC, "ES384"),
        (EC, ""),
    ],
)
def test_the_header_does_not_choose_the_algorithm(key: Private, alg: str) -> None:
    for kid in ("rsa", "ec", "ed", None):
        assert not accepted(issued(CLAIMS, key, kid, alg=alg))


def test_an_ed25519_key_does_not_verify_under_the_name_of_another_algorithm() -> None:
    for alg in ("RS256", "ES256"):
        assert not accepted(forged.jws({"alg": alg, "kid": "ed"}, CLAIMS, ED))
    assert accepted(sign(CLAIMS, ED, "ed"))


@pytest.mark.parametrize("key", [RSA, EC])
def test_a_public_key_is_no_secret_to_sign_with(key: Private) -> None:
    for alg in ("HS256", "RS256", "ES256", "none"):
        text = signing_input({"alg": alg}, CLAIMS)
        for secret in (pem(key).encode(), pem(key).strip().encode(), jwks(jwk(key)).encode()):
            assert not accepted(f"{text}.{b64url(hmac.new(secret, text.encode(), hashlib.sha256).digest())}")
        assert not accepted(f"{text}.")


def test_a_signature_of_p256_has_64_bytes_and_is_never_zero() -> None:
    text = signing_input({"alg": "ES256", "kid": "ec"}, CLAIMS)
    good = signature(EC, text.encode())
    assert accepted(f"{text}.{b64url(good)}")
    for bad in (bytes(64), good + b"\0", good[:63], b"\0" + good, EC.sign(text.encode(), ec.ECDSA(SHA256())), b""):
        assert not accepted(f"{text}.{b64url(bad)}")


def test_an_unknown_key_is_told_from_a_bad_signature() -> None:
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(UnknownKey):
        verify(issued(CLAIMS, other, "new"), KEYS, now=0)
    with pytest.raises(BadToken) as refused:
        verify(issued(CLAIMS, other, "rsa"), KEYS, now=0)
    assert not isinstance(refused.value, UnknownKey)


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (jwk(WEAK), "1024 bits"),
        (jwk(RSA, e="AQ"), "malformed"),
        (jwk(RSA, n="AQAB"), r"\w"),
        (jwk(RSA, n=b64url(b"\xff" * 2000)), "too long"),
        (jwk(RSA, n=5), "lacks its n"),
        (jwk(RSA, n="\u00fc"), "base64url"),
        (jwk(RSA, use="enc"), "another use"),
        (jwk(RSA, alg="RS512"), "another algorithm"),
        (jwk(RSA, alg="ES256"), "another algorithm"),
        (jwk(P384), "P-256"),
        (jwk(EC, crv="secp256k1"), "P-256"),
        (jwk(EC, x="AA"), r"\w"),
        (jwk(EC, y=jwk(EC)["x"]), r"\w"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "another kind"),
    ],
)
def test_a_key_that_does_not_fit_is_left_out_of_a_set_and_named_where_it_is_alone(
    unfit: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        read_public_keys(jwks(unfit))
    assert list(read_public_keys(jwks(unfit, jwk(EC, kid="ec")))) == ["ec"]


def test_a_pem_on_another_curve_or_of_a_weak_key_is_refused() -> None:
    for key, reason in ((P384, "P-256"), (WEAK, "1024 bits")):
        with pytest.raises(ValueError, match=reason):
            read_public_keys(pem(key))


def test_a_set_has_an_end() -> None:
    with pytest.raises(ValueError, match="64"):
        read_public_keys(jwks(*(jwk(EC, kid=str(n)) for n in range(65))))


def test_without_the_extra_the_reason_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from bytebrew.base.jwt import read_public_keys\n"
        "try:\n    read_public_keys(sys.stdin.read())\nexcept ValueError as error:\n    print(error)"
    )
    for text in (jwks(jwk(RSA)), jwks(jwk(EC)), pem(RSA), pem(EC)):
        done = subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, text=True, check=True)
        assert "pip install 'bytebrew[issuers]'" in done.stdout
    mixed = jwks(jwk(RSA), forged.jwk(ED.verify_key, kid="ed"))
    script = script.replace("read_public_keys(sys", "print(*read_public_keys(sys").replace("read())\n", "read()))\n")
    assert subprocess.run([sys.executable, "-c", script], input=mixed, capture_output=True, text=True).stdout == "ed\n"


# RFC 7515, appendices A.2 and A.3, and RFC 7638, section 3.1.
RFC_CLAIMS = {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
RFC_BODY = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_RSA = {
    "kty": "RSA",
    "e": "AQAB",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
    "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapH"
    "g665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW"
    "yuXpoQ",
}
RFC_RS256 = (
    f"eyJhbGciOiJSUzI1NiJ9.{RFC_BODY}."
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1d"
    "nZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu"
    "sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
RFC_EC = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_ES256 = (
    f"eyJhbGciOiJFUzI1NiJ9.{RFC_BODY}."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC_7638 = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhM"
    "stn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5"
    "hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)


@pytest.mark.parametrize(("key", "token"), [(RFC_RSA, RFC_RS256), (RFC_EC, RFC_ES256)])
def test_the_signatures_of_rfc_7515_are_recognised(key: dict[str, Any], token: str) -> None:
    assert verify(token, read_public_keys(jwks(key)), now=0) == RFC_CLAIMS


def test_the_thumbprint_of_rfc_7638_is_ours() -> None:
    assert [*read_public_keys(jwks({"kty": "RSA", "n": RFC_7638, "e": "AQAB"}))] == [
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    ]
