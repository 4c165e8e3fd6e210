"""Definitions of HTTP tools: the API's structs, merging of patches, and validation."""

import re
from collections.abc import Container, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from bytebrew import Detail, InvalidRequest, Live, Origin, Risk

from .arguments import Parameter, fitting
from .template import PARAMETER, URL, VARIABLE, names, origin_of, plain, texts

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z", description="letters, digits, _ and -")]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Text = Annotated[str, Meta(max_length=20_000)]
Short = Annotated[str, Meta(max_length=2000)]
Credential = Annotated[str, Meta(max_length=8000)]
Scalar = str | int | float | bool
Parameters = Annotated[dict[str, Parameter], Meta(max_length=100)]
Headers = Annotated[dict[str, Short], Meta(max_length=100)]
Seconds = Annotated[float, Meta(ge=0.1, le=3600, description="seconds for one call")]

CREDENTIAL = {"bearer": "token", "basic": "password", "header": "value"}
"""The field of each type of auth that is stored encrypted, unless it is a `${VAR}`."""
_FIELDS = {"bearer": ("token",), "basic": ("username", "password"), "header": ("name", "value")}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = {
    *("accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "trailer"),
    *("transfer-encoding", "upgrade", "proxy-authorization", "proxy-connection"),
}
CREDENTIAL_NAME = re.compile(
    r"(?i)authorization|cookie|(api|access|auth|private|secret)[-_]?(key|token)|client[-_]?secret|password"
)
"""Names of headers and query fields whose values are credentials."""


class NamedParameter(Parameter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parameter in a list."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the engine makes itself known: bearer with `token` or `token_env`, basic, or a header of any name.

    An empty credential keeps the one that is stored, null removes it; a tool whose `auth` is null has none.
    """

    type: Literal["bearer", "basic", "header"]
    token: Credential | None = ""
    token_env: Annotated[str, Meta(max_length=255)] = ""
    username: Short = ""
    password: Credential | None = ""
    name: Annotated[str, Meta(max_length=100)] = ""
    value: Credential | None = ""


_RISKS: Mapping[str, Risk] = {"GET": "safe", "HEAD": "safe", "DELETE": "dangerous"}


class Definition(Struct, frozen=True, kw_only=True):
    """An HTTP tool in its one stored form.

    Parameters that stand nowhere in the request go into the query of GET and HEAD and into the JSON body of the others.
    `risk` and `idempotent` are those of the method unless they are given. No credential and no header of a user's goes
    to a host that an argument names, unless its `enum` says which hosts there are.
    """

    name: str
    method: Method = "GET"
    url: str = ""
    description: str = ""
    params: dict[str, Scalar] = {}
    body: dict[str, Any] | None = None
    headers: dict[str, str] = {}
    auth: Auth | None = None
    parameters: dict[str, Parameter] = {}
    forward_headers: tuple[str, ...] = ()
    response_pointer: str = ""
    timeout: float = 30.0
    idempotent: bool | None = None
    confirmation_required: bool = False
    allow_private: bool = False
    risk: Risk | None = None

    @property
    def zone(self) -> Risk:
        """How much harm the tool can do."""
        return self.risk or _RISKS.get(self.method, "caution")


class HttpTool(Definition, frozen=True, kw_only=True):
    """An HTTP tool as it is answered; its credential is kept sealed and never leaves the engine.

    `security_zone` is its `risk`, or else that of its method; `agents` name it in their `tools`.
    """

    type: Literal["http"] = "http"
    security_zone: Live[Risk]
    agents: Live[tuple[str, ...]]
    has_credential: bool
    created_at: str
    updated_at: Live[str]


class HttpToolPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to an HTTP tool: what is left out stays, and so does the credential when it is empty.

    With a `url` at another scheme, host or port, credentials must be sent again. `endpoint` is `url` or "METHOD url",
    and `params` may be a list of parameters.
    """

    name: ToolName | UnsetType = UNSET
    type: Literal["http"] | UnsetType = UNSET
    method: Method | UnsetType = UNSET
    url: (
        Annotated[
            str, Meta(max_length=4000, pattern=r"^(https?://|\$\{)[^\x00-\x1f]+\Z", description="an http or https URL")
        ]
        | UnsetType
    ) = UNSET
    endpoint: Annotated[str, Meta(max_length=4000)] | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    params: dict[str, Scalar] | tuple[NamedParameter, ...] | UnsetType = UNSET
    body: dict[str, Any] | UnsetType | None = UNSET
    headers: Headers | UnsetType = UNSET
    auth: Auth | UnsetType | None = UNSET
    parameters: Parameters | UnsetType = UNSET
    forward_headers: Annotated[tuple[str, ...], Meta(max_length=100)] | UnsetType = UNSET
    response_pointer: (
        Annotated[str, Meta(max_length=1000, pattern=r"^(/|\Z)", description="a JSON Pointer, such as /items/0")]
        | UnsetType
    ) = UNSET
    timeout: Seconds | UnsetType = UNSET
    idempotent: bool | UnsetType | None = UNSET
    confirmation_required: bool | UnsetType = UNSET
    allow_private: bool | UnsetType = UNSET
    risk: Risk | UnsetType | None = UNSET


class NewHttpTool(HttpToolPatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An HTTP tool to create."""

    name: ToolName


def merged(old: Definition, patch: HttpToolPatch) -> tuple[Definition, str | None]:
    """The tool with the patch merged in, and the credential to encrypt; None keeps the stored one.

    Raises InvalidRequest with every fault of the result.
    """
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.pop("name", old.name) != old.name:
        raise InvalidRequest("A tool's name is fixed", details=[Detail("$.name", "create another tool instead")])
    changes.pop("type", None)
    if isinstance(listed := changes.get("params"), tuple):
        changes["params"] = {}
        changes["parameters"] = changes.get("parameters", {}) | {
            one.name: Parameter(**{key: value for key, value in asdict(one).items() if key != "name"}) for one in listed
        }
    if endpoint := changes.pop("endpoint", ""):
        first, _, rest = endpoint.strip().partition(" ")
        method, changes["url"] = (first.upper(), rest.strip()) if rest else ("", first)
        if method and changes.setdefault("method", method) != method:
            raise _bad("$.method", f"the endpoint says {method}")
        if changes.get("method", "GET") not in get_args(Method):
            raise _bad("$.endpoint", f"{method} is none of {', '.join(get_args(Method))}")
    auth, credential = _auth(changes.get("auth", UNSET), old)
    new = replace(old, **changes | {"auth": auth})
    stays = auth is not None and credential is None
    if faults := [*_faults(new, credential or ""), *_kept_credentials(old, new, changes, stays)]:
        raise InvalidRequest(f"{faults[0].path}: {faults[0].message}", details=faults)
    return new, credential


def _auth(auth: Auth | UnsetType | None, old: Definition) -> tuple[Auth | None, str | None]:
    if isinstance(auth, UnsetType):
        return old.auth, None
    if auth is None:
        return None, ""
    if auth.token_env:
        if not VARIABLE.fullmatch(f"${{{auth.token_env}}}"):
            raise _bad("$.auth.token_env", "is no name of a variable")
        auth = replace(auth, token=f"${{{auth.token_env}}}", token_env="")
    for field in ("token", "username", "password", "name", "value"):
        if getattr(auth, field) and field not in _FIELDS[auth.type]:
            raise _bad(f"$.auth.{field}", f"does not belong to {auth.type}")
    if auth.type == "header" and not _is_name(auth.name):
        raise _bad("$.auth.name", "is no name of a header that a tool may send")
    if auth.type == "basic" and (not auth.username or ":" in auth.username):
        raise _bad("$.auth.username", "is missing or holds a colon (RFC 7617)")
    field = CREDENTIAL[auth.type]
    secret = getattr(auth, field)
    auth = replace(auth, **{other: getattr(auth, other) or "" for other in CREDENTIAL.values()})
    if secret == "" and old.auth is not None and old.auth.type == auth.type:
        return replace(auth, **{field: getattr(old.auth, field)}), None
    if not secret and auth.type != "basic":
        raise _bad(f"$.auth.{field}", "is missing")
    if secret is None:
        return auth, ""
    if VARIABLE.fullmatch(secret) and ":-" not in secret:
        return auth, ""
    return replace(auth, **{field: ""}), secret


def _faults(new: Definition, credential: str) -> Iterator[Detail]:
    match = URL.fullmatch(new.url)
    if not new.url:
        yield Detail("$.url", "is missing")
    elif not match and not new.url.startswith("${"):
        yield Detail("$.url", "begins with http://, https:// or a ${VAR} that does")
    elif match and not _has_host(match["authority"]):
        yield Detail("$.url", "names a host that is none, such as an IPv6 address that is wrong")
    if match and "@" in match["authority"]:
        yield Detail("$.url", "holds a credential; put it into auth")
    if "{{" in PARAMETER.sub("", new.url):
        yield Detail("$.url", "has a {{ that begins no {{name}}")
    if any(ord(letter) < 32 for letter in new.url):
        yield Detail("$.url", "holds a control character")
    if new.body is not None and new.method in ("GET", "HEAD"):
        yield Detail("$.body", f"{new.method} has no body")
    for name, value in new.headers.items():
        if not _is_name(name):
            yield Detail(f"$.headers.{name[:100]}", "is no header that a tool may send")
        if any(ord(letter) < 32 or ord(letter) > 126 for letter in value):
            yield Detail(f"$.headers.{name[:100]}", "holds more than printable ASCII")
    for n, name in enumerate(new.forward_headers):
        if not _is_name(name):
            yield Detail(f"$.forward_headers[{n}]", "is no header that may be passed on")
    for path, value in _credential_fields(new):
        if value and not VARIABLE.search(value) and "{{" not in value:
            yield Detail(path, "looks like a credential; put it into auth or into a ${VAR}")
    yield from exposed(new)
    for name, parameter in new.parameters.items():
        yield from _parameter_faults(name, parameter)
    for text in texts([credential, asdict(new), asdict(new.auth) if new.auth else None]):
        for variable, _ in VARIABLE.findall(text):
            if variable.startswith("BYTEBREW_"):
                yield Detail("$", f"{variable} is the engine's own and no tool's")


def _has_host(authority: str) -> bool:
    """Whether brackets stand around an IPv6 address, or around what a variable or a parameter is part of."""
    plainly = PARAMETER.sub("{}", VARIABLE.sub("{}", authority))
    if not {"[", "]"} & {*plainly} or re.search(r"\[[^\[\]]*\{\}[^\[\]]*\]", plainly):
        return True
    try:
        msgspec.convert(f"http://{plainly.replace('{}', '0')}", Origin)
    except msgspec.ValidationError:
        return False
    return True


def _parameter_faults(name: str, parameter: Parameter) -> Iterator[Detail]:
    path = f"$.parameters.{name[:100]}"
    if not PARAMETER.fullmatch(f"{{{{{name}}}}}"):
        yield Detail(path, "is no name: letters, digits, _ and -, 64 at most, no digit first")
    values = [(f"{path}.enum[{n}]", value) for n, value in enumerate(parameter.enum)]
    if parameter.default is not UNSET:
        values.append((f"{path}.default", parameter.default))
    for where, value in values:
        try:
            fitting(value, parameter, whole=where.endswith(".default"))
        except ValueError as error:
            yield Detail(where, str(error))


def exposed(tool: Definition) -> Iterator[Detail]:
    """Fields that would send a credential or forwarded headers to a host that the model chooses."""
    free = [one for one in names(origin_of(tool.url)) if one not in tool.parameters or not tool.parameters[one].enum]
    if not free:
        return
    message = (
        f"would go to a host that the argument '{free[0]}' names; write the host out, or give the argument an enum"
    )
    if tool.auth:
        yield Detail("$.auth", message)
    if tool.forward_headers:
        yield Detail("$.forward_headers", message)
    for path, value in _credential_fields(tool):
        if VARIABLE.search(value):
            yield Detail(path, message)


def _kept_credentials(old: Definition, new: Definition, sent: Container[str], stays: bool) -> Iterator[Detail]:
    """Credentials stored for another address that would go to the new one without being sent again."""
    if not old.url or _within(new, old):
        return
    message = f"send it again, or as a ${{VAR}}, with another url: what is stored is {origin_of(old.url)[:300]}'s alone"
    if stays:
        yield Detail("$.auth", message)
    for path, value in _credential_fields(new):
        if path.split(".")[1] not in sent and VARIABLE.search(value):
            yield Detail(path, message)


def _within(new: Definition, old: Definition) -> bool:
    """Whether every origin that the new definition can reach was reachable with the old one."""
    if origin_of(old.url) != origin_of(new.url):
        return False
    for name in names(origin_of(old.url)):
        ours, theirs = (tool.parameters[name].enum if name in tool.parameters else () for tool in (new, old))
        if theirs and not (ours and {plain(value) for value in ours} <= {plain(value) for value in theirs}):
            return False
    return True


def _credential_fields(tool: Definition) -> Iterator[tuple[str, str]]:
    """Path and value of each field whose name marks it as a credential."""
    query = tool.url.partition("#")[0].partition("?")[2]
    for field, pairs in (("headers", tool.headers), ("params", tool.params), ("url", dict(parse_qsl(query)))):
        for name, value in pairs.items():
            if isinstance(value, str) and CREDENTIAL_NAME.search(name):
                yield f"$.{field}.{name[:100]}", value


def _is_name(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _OURS


def _bad(path: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {problem}", details=[Detail(path, problem)])


def parameters_of(definition: Definition) -> dict[str, Parameter]:
    """Every parameter of the tool; one that appears only in the request is a required string."""
    placed = names([definition.url, definition.params, definition.headers, definition.body])
    return definition.parameters | {name: Parameter() for name in placed if name not in definition.parameters}


def unplaced(definition: Definition) -> list[str]:
    """The parameters that do not appear in the request."""
    placed = names([definition.url, definition.params, definition.headers, definition.body])
    return [name for name in definition.parameters if name not in placed]


def encoded(definition: Definition) -> str:
    """The definition as JSON for the database."""
    return msgspec.json.encode(definition).decode()
