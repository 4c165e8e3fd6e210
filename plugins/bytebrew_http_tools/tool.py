"""The call of an HTTP tool: the request, its redirects, and the answer for the model."""

import logging
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urljoin

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import asdict, replace

from bytebrew import Call, EngineError, Exchange, Http, ProviderError, Tool, ToolError, masked

from .arguments import Parameter, checked, schema_of
from .definition import CREDENTIAL, CREDENTIAL_NAME, Auth, Definition, exposed, parameters_of, unplaced
from .store import Stored
from .template import URL, expanded, filled, header, names, origin_of, plain, unset, url_of, variables

log = logging.getLogger(__name__)

MAX_REDIRECTS = 5
MAX_BYTES = 1024 * 1024
MIN_CREDENTIAL = 8
"""Minimum length of masked values in answers: of fields named like credentials, and of variables."""
_UNSET = "The tool is not called: the environment variable {0} is not set; set it, or write ${{{0}:-}} for an empty one"
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|javascript|x-ndjson|x-www-form-urlencoded)|")
_CHARSET = re.compile(
    r"charset=[\"']?(utf-?(?:8|16|32)|us-ascii|iso-8859-\d+|windows-125\d|shift_jis|euc-\w+|gb\w+|big5|koi8-[ru])\b"
)


class DeclaredTool(Tool):
    """One HTTP tool with its variables resolved."""

    source = "http"

    def __init__(
        self, stored: Stored, http: Http, unseal: Callable[[bytes], str], environment: Mapping[str, str]
    ) -> None:
        self._definition = one = _loaded(stored.definition, environment)
        self._variables = _values(stored.definition, one.url, environment)
        self._exposed = next(exposed(stored.definition), None)
        defaults = [parameter.default for parameter in stored.definition.parameters.values()]
        self._unset = unset([*_sent(stored.definition), *defaults], environment)
        self._sealed, self._unseal = stored.sealed, unseal
        self._http, self._environment = http, environment
        self._parameters = parameters_of(one)
        more = {name: f"{{{{{name}}}}}" for name in unplaced(one)}
        in_query = one.method in ("GET", "HEAD")
        self._params: Mapping[str, Any] = {**one.params, **more} if in_query else one.params
        self._body = one.body if in_query or not more else (one.body or {}) | more
        self.name, self.description = one.name, one.description
        self.input_schema = schema_of(self._parameters)
        self.timeout, self.confirm = one.timeout, one.confirmation_required
        self.idempotent = in_query if one.idempotent is None else one.idempotent
        self.risk = one.zone

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        of_call = {"idempotency-key": call.key} | ({"traceparent": call.traceparent} if call.traceparent else {})
        return self.output(await self.exchange(call.headers, input, of_call), call.headers)

    async def exchange(
        self, forwarded: Mapping[str, str], input: Mapping[str, Any], of_call: Mapping[str, str] = MappingProxyType({})
    ) -> Exchange:
        """The answer to a call, after redirects; `forwarded` are the request's headers, some of which are passed on.

        `of_call` are headers of the call itself, unless the definition has its own.
        """
        one = self._definition
        if self._exposed:
            raise ToolError(f"The tool does not run: its {self._exposed.path[2:]} {self._exposed.message}")
        if self._unset:
            log.warning("the HTTP tool %s is not called: the variable %s is not set", self.name, self._unset[0])
            raise ToolError(_UNSET.format(self._unset[0]))
        arguments = checked(input, self._parameters)
        method, url = str(one.method), url_of(one.url, self._params, arguments)
        headers, body = self._headers(forwarded, arguments, of_call), filled(self._body, arguments)
        trusted = "" if names(origin_of(one.url)) else _origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            public_only = not one.allow_private and _origin(url) != trusted
            answer = await self._ask(method, url, headers, body, public_only)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, body = "HEAD" if method == "HEAD" else "GET", None
            before, url = _origin(url), _target(url, location)
            if _origin(url) != before:
                headers, trusted = {}, ""  # a configured header may be a credential
                if body is not None:
                    raise ToolError(f"The tool redirects to {_origin(url)}; a body is sent to the host of its url only")
        raise ToolError(f"The tool redirects more than {MAX_REDIRECTS} times")

    def output(self, answer: Exchange, forwarded: Mapping[str, str]) -> str:
        """The answer as text for the model; ToolError for a status of 400 or more."""
        text = self._masked(_text(answer), forwarded)
        if answer.status >= 400:
            raise ToolError(f"HTTP {answer.status}: {text}")
        if not answer.body:
            return f"HTTP {answer.status}"
        if self._definition.response_pointer:
            if answer.truncated:
                raise ToolError(f"The answer is longer than {MAX_BYTES} bytes and cannot be read as JSON")
            # again, because unescaping may have revealed a credential
            return self._masked(_pointed(text, self._definition.response_pointer), forwarded)
        return f"{text}\n[cut: the answer is longer than {MAX_BYTES} bytes]" if answer.truncated else text

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: Any, public_only: bool) -> Exchange:
        try:
            return await self._http.ask(
                method, url, headers=headers, json=body, public_only=public_only, limit=MAX_BYTES
            )
        except ProviderError as error:
            bad = error.code == "model_bad_request"  # its message contains the whole URL
            message = f"A request to {_origin(url)} cannot be made of these arguments" if bad else error.message
            raise ToolError(self._masked(message, {})) from error

    def _headers(
        self, forwarded: Mapping[str, str], arguments: Mapping[str, Any], of_call: Mapping[str, str]
    ) -> dict[str, str]:
        one = self._definition
        headers = dict(of_call) | self._passed_on(forwarded)
        own = filled(one.headers, arguments)
        headers |= {name.lower(): plain(value) for name, value in own.items() if value is not None}
        if one.auth is not None:
            headers |= _authorization(one.auth, self._credential(one.auth))
        # in the case that http.ask uses for its own
        return {name.title(): header(name, value) for name, value in headers.items()}

    def _passed_on(self, forwarded: Mapping[str, str]) -> dict[str, str]:
        names = [name.lower() for name in self._definition.forward_headers]
        return {name: forwarded[name] for name in names if name in forwarded}

    def _masked(self, text: str, forwarded: Mapping[str, str]) -> str:
        """The text without credentials: that of `auth`, fields named like credentials, and values of variables.

        The last word of a value such as `Bearer abc` is also masked alone.
        """
        one = self._definition
        query = parse_qsl(one.url.partition("#")[0].partition("?")[2])
        pairs = [*one.headers.items(), *self._passed_on(forwarded).items(), *one.params.items(), *query]
        sent = [str(value) for name, value in pairs if CREDENTIAL_NAME.search(name)]
        secrets = {value for value in self._variables if len(value) >= MIN_CREDENTIAL}
        if one.auth:
            secrets.add(credential := self._credential(one.auth))
            sent += _authorization(one.auth, credential).values()
        secrets |= {part for value in sent for part in (value, value.rpartition(" ")[2]) if len(part) >= MIN_CREDENTIAL}
        for secret in sorted(secrets - {""}, key=len, reverse=True):
            text = masked(text, secret, escapes=True)
        return text

    def _credential(self, auth: Auth) -> str:
        try:
            sealed = self._unseal(self._sealed)
        except EngineError as error:
            raise ToolError(error.message) from error
        if missing := unset(sealed, self._environment):
            raise ToolError(_UNSET.format(missing[0]))
        credential = str(expanded(sealed, self._environment) or getattr(auth, CREDENTIAL[auth.type]))
        if not credential and auth.type != "basic":
            raise ToolError(f"The tool is not called: its {auth.type} credential is empty")
        return credential


def _loaded(definition: Definition, environment: Mapping[str, str]) -> Definition:
    values = asdict(definition)
    texts = expanded({name: values[name] for name in ("url", "description", "params", "body", "headers")}, environment)
    auth = definition.auth and Auth(**expanded(asdict(definition.auth), environment))
    parameters = {name: _resolved(parameter, environment) for name, parameter in definition.parameters.items()}
    return replace(definition, auth=auth, parameters=parameters, **texts)


def _resolved(parameter: Parameter, environment: Mapping[str, str]) -> Parameter:
    description, enum, default = expanded([parameter.description, parameter.enum, [parameter.default]], environment)
    return replace(parameter, description=description, enum=tuple(enum), default=next(iter(default), UNSET))


def _sent(definition: Definition) -> list[Any]:
    """The parts of a definition that are sent in a request."""
    auth = asdict(definition.auth) if definition.auth else None
    return [definition.url, definition.params, definition.body, definition.headers, auth]


def _values(definition: Definition, url: str, environment: Mapping[str, str]) -> set[str]:
    """Values of variables in the request, also URL-decoded; of a URL only the part after the host."""
    parts = URL.fullmatch(url)
    origin = url[: parts.end("authority")] if parts else ""
    values = {environment.get(name, "").removeprefix(origin) for name in variables(_sent(definition))}
    return {form for value in values if value not in origin for form in (value, unquote_plus(value))}


def _authorization(auth: Auth, credential: str) -> dict[str, str]:
    if auth.type == "header":
        return {auth.name.lower(): credential}
    if auth.type == "bearer":
        return {"authorization": f"Bearer {credential}"}
    return {"authorization": f"Basic {b64encode(f'{auth.username}:{credential}'.encode()).decode()}"}


def _origin(url: str) -> str:
    parts = URL.fullmatch(url.lower())
    if parts is None:
        return ""
    own_port = ":80" if parts["scheme"] == "http" else ":443"
    return f"{parts['scheme']}://{parts['authority'].removesuffix(own_port)}"


def _target(url: str, location: str) -> str:
    try:
        target = urljoin(url, location).partition("#")[0]
    except ValueError:
        target = ""
    parts = URL.fullmatch(target)
    if parts is None or "@" in parts["authority"]:
        raise ToolError("The tool redirects to what is no http or https URL")
    return target


def _text(answer: Exchange) -> str:
    kind, _, rest = answer.headers.get("content-type", "").lower().partition(";")
    charset = _CHARSET.search(rest)
    try:
        text = answer.body.decode(charset[1] if charset else "utf-8", "replace")
    except LookupError:  # unknown charset, such as iso-8859-99
        text = answer.body.decode("utf-8", "replace")
    if not _TEXT.fullmatch(kind.strip()) or "\0" in text:
        more = " or more" if answer.truncated else ""
        return f"[an answer of type {kind.strip()[:100] or 'unknown'}, {len(answer.body)} bytes{more}, that is no text]"
    return text.removeprefix("\ufeff")


def _pointed(text: str, pointer: str) -> str:
    """The part of a JSON text at a JSON Pointer (RFC 6901): a string's content, or else the JSON."""
    raw: bytes | Raw = text.encode()
    try:
        for token in pointer[1:].split("/"):
            key = token.replace("~1", "/").replace("~0", "~")
            within = msgspec.json.decode(raw, type=dict[str, Raw] | list[Raw])
            raw = within[key] if isinstance(within, dict) else within[_index(key)]
        part = bytes(raw)
        return msgspec.json.decode(part, type=str) if part.startswith(b'"') else part.decode()
    except (msgspec.DecodeError, LookupError, RecursionError) as error:
        raise ToolError(f"The answer has nothing at {pointer}: {text[:1000]}") from error


def _index(key: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,9}", key):
        raise LookupError(key)
    return int(key)
