"""Credentials are masked: by what they look like, by their value, and by the names of their fields."""

import time
from typing import Any

import pytest
from bytebrew_tokens.store import new_token

from bytebrew.base.jwt import SigningKey, sign
from bytebrew.base.masking import (
    argument_credentials,
    argument_values,
    is_credential,
    masked,
    masked_value,
    masker,
    redact,
    secrets_in,
)

JWT = sign({"sub": "x", "exp": 1}, SigningKey.generate())
SECRETS = (
    new_token(),
    JWT,
    "sk-proj-0123456789abcdefghij",
    "sk-ant-api03-0123456789_-abcdef",
    "xai-0123456789abcdefghij",
    "gsk_0123456789abcdefghij",
    "AIzaSyA0123456789_abcdefghij",
    "bbv_roI2RMPY-f71zU8YoPik09Tb8zQO--Yraj3n2a9zYHheh_Ust8TR83uM_tw",
)


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
@pytest.mark.parametrize("around", ["{}", "key={} was refused", '{{"api_key": "{}"}}', "https://vendor/v1?key={}&x=1"])
def test_what_looks_like_a_credential_is_masked(secret: str, around: str) -> None:
    told = redact(around.format(secret))
    assert secret not in told
    assert secret[-10:] not in told
    assert "***" in told


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_what_follows_bearer_is_masked_whatever_it_is(scheme: str) -> None:
    assert redact(f"Authorization: {scheme} hunter2") == f"Authorization: {scheme} ***"


def test_a_command_that_a_shell_is_to_replace_by_a_token_stays_whole() -> None:
    line = """-H "Authorization: Bearer $(curl -s -X POST http://127.0.0.1:8443/x | sed 's/a/b/')" """
    assert redact(line) == line


@pytest.mark.parametrize(
    "text", ["skeleton_of_a_long_identifier", "task-force-seventeen-is-here", "turn_0123456789abcdef01234567"]
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "repeated",
    ["Zm9v%2FYmFy%2BcXV4%3D%22", r"Zm9v\/YmFy+cXV4=\"", r"Zm9v/YmFy+cXV4=\"", "Zm9v/YmFy%2BcXV4%3D%22", "Zm9v%2FYmFy"],
)
def test_a_key_that_is_repeated_in_a_url_or_in_json_is_masked(repeated: str) -> None:
    assert masked(f"no such key {repeated}", 'Zm9v/YmFy+cXV4="') == "no such key ***"


@pytest.mark.parametrize("repeated", [r"a\u0022b\/c", "a%22b%2fc", r"a\"b/c", 'a"b/c'])
def test_a_key_is_masked_whichever_of_its_characters_are_escaped(repeated: str) -> None:
    assert masked(f"no such key {repeated}!", 'a"b/c', escapes=True) == "no such key ***!"


def test_a_masker_masks_lines_of_secrets_too_and_leaves_short_ones() -> None:
    mask = masker(["first line\nsecond line", "abc"], 4)
    assert mask('"first line" and second line and abc') == '"***" and *** and abc'


def test_credentials_on_a_command_line_are_found_by_the_names_before_them() -> None:
    args = ["serve", "--api-key=k1", "--token", "k2", "--header", "X-Auth: word k3", "-v", "postgres://u:k4@host/db"]
    assert argument_credentials(args) == ["k1", "k2", "word k3", "word", "k3", "postgres://u:k4@host/db"]
    assert set(argument_credentials(args)) < set(argument_values(args))
    assert "serve" in argument_values(args)
    assert is_credential("DB_PASSWORD", "x")
    assert not is_credential("HOME", "/root")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"api_key": "k", "apiKey": "k", "has_api_key": True, "token": None, "password": ""}, None),
        ({"max_tokens": 5, "input_tokens": 7, "password": 1234}, {"password": "***"}),
        ({"env": {"A": "b"}, "headers": {"C": "d"}}, {"env": {"A": "***"}, "headers": {"C": "***"}}),
        ({"a": [{"secret": ["x"]}]}, {"a": [{"secret": "***"}]}),
        ({"a": "https://x/?access_token=abc&b=1"}, {"a": "https://x/?access_token=***&b=1"}),
        ({"a": "the tokens of a text"}, {"a": "the tokens of a text"}),
        ({"a": "Authorization: Basic dTpw"}, {"a": "Authorization: ***"}),
        ({"a": "curl -H 'Authorization: token ghp_x' -v"}, {"a": "curl -H 'Authorization: ***' -v"}),
        ({"a": "Cookie: a=b; session=c"}, {"a": "Cookie: ***"}),
        ({"a": "postgres://u:p@ss@host/db"}, {"a": "postgres://***@host/db"}),
        ({"a": '{"password": "two words", "b": 1}'}, {"a": '{"password": "***", "b": 1}'}),
        ({"a": '{"password": "a\\"b"}'}, {"a": '{"password": "***"}'}),
        ({"a": r"{\"password\": \"x\"}"}, {"a": r"{\"password\": \"***"}),
        ({"a": "password=half#whole&b=1"}, {"a": "password=***&b=1"}),
        ({"pwd": "a", "passphrase": "b"}, {"pwd": "***", "passphrase": "***"}),
        ({"name": "custom.api_key", "fields": [{"before": 1}]}, {"name": "custom.api_key", "fields": "***"}),
        (["--api-key", "abc", "--verbose", "x"], ["--api-key", "***", "--verbose", "x"]),
        ({"name": "custom.secret", "value": {"a": 1}}, {"name": "custom.secret", "value": "***"}),
    ],
)
def test_what_is_shown_of_a_value(value: Any, expected: Any) -> None:
    if expected is None:
        expected = {"api_key": "***", "apiKey": "***"}
    assert masked_value(value) == (value | expected if isinstance(value, dict) else expected)


def test_a_secret_that_begins_with_another_leaves_nothing_behind() -> None:
    """In whatever order they come."""
    assert masked_value("it is abcdefghij", dict.fromkeys(["abcdef", "abcdefghij"]).keys()) == "it is ***"
    assert masked_value("it is abcdefghij", dict.fromkeys(["abcdefghij", "abcdef"]).keys()) == "it is ***"


def test_a_long_text_is_cut_and_read_in_bounded_time() -> None:
    begun = time.monotonic()
    hostile = ("token", "a", "://", "eyJ", "token=", "authorization:", "password:'\\", "token    :    ", "a@://a@")
    for text in (word * (1_000_000 // len(word)) for word in hostile):
        assert len(masked_value(text)) <= 10_000
    assert time.monotonic() - begun < 5


def test_secrets_of_a_value_are_those_in_fields_named_after_secrets_if_they_are_long_enough() -> None:
    value = {"api_key": "abcdef", "token": "short", "env": {"A": "ghijkl"}, "name": "nobody", "args": [["mnopqr"]]}
    assert set(secrets_in(value)) == {"abcdef", "ghijkl", "mnopqr"}
