"""Masks credentials in texts and JSON values before they reach a log, an error, a model or an audit."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from msgspec.json import encode

MASK = "***"
MAX_TEXT = 10_000
"""Characters of a text in a masked JSON value; the rest is cut off."""

Masker = Callable[[str], str]

# A fixed list, so that logs are masked before plugins are loaded, and tokens of a disabled plugin stay secret.
_LOOKS_SECRET = re.compile(
    r"bb_[0-9a-f]{64}"  # API tokens
    r"|bb[vt]_[\w-]{20,}"  # visitors' tokens, and tickets
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # JWTs
    r"|(?i:(?<=bearer ))(?!<token>|\$\((?:curl|cat) )\S+"  # except placeholders in documented commands
    r"|\b(?:(?:sk|xai|gsk|hf|pplx)[-_]|AIza)[A-Za-z0-9_-]{16,}"  # vendors' keys
)
_CREDENTIAL_NAME = re.compile(r"(?i)key|token|secret|passw|pwd|credential|auth|cookie")
"""Names of variables, options and headers of foreign programs."""
_URL_PASSWORD = re.compile(r"://[^/\s]*@")
_HEADER = re.compile(r"([A-Za-z0-9_-]+):(?!//)\s*(\S.*)")
_TIME_OR_ID = re.compile("[0-9a-fTZ:.+-]*")
"""A text of characters that make up no secret's name, no vendor's prefix and no URL."""
_NAME = r"(?:(?:api|access|auth|private)[-_]?key|token|secret|passw|passphrase|pwd|credential|authorization|cookie)"
_SECRET_FIELD = re.compile(f"(?i){_NAME}")
"""Names of fields of the API, in which `key` alone is not a credential."""
_SECRET_VALUES = {"args", "env", "env_vars", "headers"}
"""Fields whose every value may be a credential."""
_LABELLED = ("value", "default", "fields")
"""Fields with the value of a variable that `key` or `name` beside them names."""
_TOOL_OUTPUT = "output"
_SECRET_IN_TEXT = re.compile(
    rf"""(?xi)(://)[^/\s]+(?=@)
    |((?:authorization|cookie)[\w-]{{0,40}}\\{{0,4}}["']?\s{{0,4}}[=:]\s{{0,4}}\\{{0,4}}["']?)[^"'\r\n]+
    |({_NAME}[\w-]{{0,40}}\\{{0,4}}["']?\s{{0,4}}[=:]\s{{0,4}}\\{{0,4}}(["'])?)(?(4)(?:\\.|[^"'\\])+|[^\s"'&]+)"""
)
"""User and password of a URL, the whole of an Authorization or Cookie header, and the value after a secret's name."""


# Unknown secrets: by their format.


def redact(text: str) -> str:
    """The text with everything masked that looks like a credential."""
    return _LOOKS_SECRET.sub(MASK, text)


# Known secrets: by their value.


def masked(text: str, key: str, *, escapes: bool = False) -> str:
    """The text without the key: raw, in JSON, in a URL, and truncated at the end of the text.

    With `escapes` single characters of the key may be escaped, whichever way JSON and URLs allow.
    """
    if not key:
        return text
    if escapes:
        text = re.sub(_escapable(key), MASK, text)
    quoted = encode(key).decode()[1:-1]
    forms = {key, quoted, quoted.replace("/", r"\/"), quote(key, safe=""), quote(key), quote_plus(key)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    rest = max(n for form in forms for n in range(min(len(form), len(text)) + 1) if text.endswith(form[:n]))
    return f"{text[:-rest]}{MASK}" if rest > 5 else text


def _escapable(text: str) -> str:
    """The pattern of a text in which any character but letters and digits may be escaped for JSON or a URL."""

    def character(match: re.Match[str]) -> str:
        char = match[0]
        plus = r"|\+" if char == " " else ""
        in_json = "".join(rf"\\u{unit}" for unit in char.encode("utf-16-be").hex(" ", 2).split())
        in_url = "".join(f"%{byte:02x}" for byte in char.encode())
        return rf"(?:\\?{re.escape(char)}|{re.escape(encode(char).decode()[1:-1])}|(?i:{in_json}|{in_url}){plus})"

    return re.sub("[^A-Za-z0-9]", character, text)


def masker(secrets: Iterable[str], min_length: int) -> Masker:
    """A function that masks the secrets and each of their lines; short ones stay, as they may be common words."""
    pieces = {piece for secret in secrets for piece in (secret, *secret.splitlines()) if len(piece) >= min_length}
    pieces |= {encode(piece).decode()[1:-1] for piece in pieces}
    longest_first = sorted(pieces, key=len, reverse=True)

    def mask(text: str) -> str:
        for piece in longest_first:
            if piece[:6] in text:  # the least that `masked` replaces
                text = masked(text, piece)
        return text

    return mask


def is_credential(name: str, value: str) -> bool:
    """Whether a variable, option or header of a foreign program holds one: by its name, or a password in a URL."""
    return _CREDENTIAL_NAME.search(name) is not None or _URL_PASSWORD.search(value) is not None


def argument_values(args: Sequence[str]) -> list[str]:
    """Every value on a command line: arguments, values attached to options, and values of headers in them."""
    values = [value for arg in args if (value := _option(arg)[1] if arg.startswith("-") else arg)]
    return [*values, *(piece for value in values for piece in _header(value)[1])]


def argument_credentials(args: Sequence[str]) -> list[str]:
    """The values on a command line that are credentials by their option's or header's name, or as part of a URL."""
    credentials = []
    for option, arg in zip(("", *args), args, strict=False):
        name, value = _option(arg) if arg.startswith("-") else (option if option.startswith("-") else "", arg)
        credentials += [value] if value and is_credential(name, value) else []
        header, pieces = _header(value)
        credentials += pieces if is_credential(header, "") else []
    return credentials


def _option(arg: str) -> tuple[str, str]:
    """The name of an option and the value attached to it, as in `--key=value` and `-Kvalue`."""
    name, _, value = arg.partition("=")
    return (name, value) if value or arg.startswith("--") else (arg[:2], arg[2:])


def _header(arg: str) -> tuple[str, list[str]]:
    """The name and the value of a header such as `X-Key: value`, the value also word by word."""
    match = _HEADER.fullmatch(arg)
    return (match[1], [match[2], *match[2].split()]) if match else ("", [])


# JSON values: by the names of their fields.


@lru_cache(1024)
def is_secret_field(name: str) -> bool:
    """Whether a field of the API with this name holds a secret."""
    return _SECRET_FIELD.search(name) is not None


def masked_value(value: Any, secrets: Set[str] = frozenset()) -> Any:
    """A JSON value without these secrets and without what looks like one, by its field's name or within a text."""
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):  # one may begin with another
            value = value.replace(secret, MASK)
        if _TIME_OR_ID.fullmatch(value):  # most texts, of which the patterns below look at each character
            return value[:MAX_TEXT]
        text = redact(value[: 2 * MAX_TEXT])
        return (_SECRET_IN_TEXT.sub(rf"\1\2\3{MASK}", text) if ":" in text or "=" in text else text)[:MAX_TEXT]
    if isinstance(value, list):
        return [
            MASK
            if n and isinstance(value[n - 1], str) and _is_secret_flag(value[n - 1])
            else masked_value(item, secrets)
            for n, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    label = value.get("key", value.get("name"))
    labelled = _LABELLED if isinstance(label, str) and is_secret_field(label) else ()
    return {  # nothing can be masked in most fields: they are empty
        field: item and _masked_field(field, item, secrets, secret=field in labelled) for field, item in value.items()
    }


def secrets_in(value: Any, secret: bool = False) -> Iterator[str]:
    """The texts in secret fields of a JSON value, except those of up to five characters: they would match too much."""
    if isinstance(value, dict):
        for field, item in value.items():
            yield from secrets_in(item, secret or field in _SECRET_VALUES or is_secret_field(str(field)))
    elif isinstance(value, list):
        for item in value:
            yield from secrets_in(item, secret)
    elif secret and isinstance(value, str) and len(value) > 5:
        yield value


def _masked_field(field: str, value: Any, secrets: Set[str], *, secret: bool) -> Any:
    if secret or field == _TOOL_OUTPUT or is_secret_field(field):
        return _mask_unless_plain(field, value)
    if field in _SECRET_VALUES and isinstance(value, dict):
        return {name: _mask_unless_plain(name, item) for name, item in value.items()}
    if field in _SECRET_VALUES and isinstance(value, list):
        return [_mask_unless_plain(field, item) for item in value]
    return masked_value(value, secrets)


def _is_secret_flag(text: str) -> bool:
    """Whether an argument of a command line is an option that takes a secret."""
    return text.startswith("-") and "=" not in text and is_secret_field(text)


def _mask_unless_plain(field: str, value: Any) -> Any:
    """The mask for anything except empty values, booleans and numbers of tokens."""
    counted = isinstance(value, int | float) and "token" in field.lower()
    return value if not value or value is True or counted else MASK
