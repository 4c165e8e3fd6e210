"""MCP servers as configured and stored, and the plugin's settings."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import UNSET, Meta, Struct, UnsetType

from bytebrew import Duration, Live, Name, Risk, Url

Type = Literal["stdio", "http", "streamable-http", "sse"]
AuthType = Literal["none", "api_key", "bearer", "forward_headers", "oauth2"]
AuthGrant = Literal["authorization_code", "client_credentials"]
Pin = Literal["off", "warn", "block"]
State = Literal["connected", "connecting", "error", "disconnected", "disabled"]
Text = Annotated[str, Meta(max_length=4000, pattern=r"^[^\x00]*\Z", description="a text without NUL")]
Texts = Annotated[tuple[Text, ...], Meta(max_length=200)]
Token = Annotated[
    str, Meta(max_length=200, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", description="the name of a header")
]
"""The name of a header (RFC 9110 section 5.1)."""
Headers = Annotated[tuple[Token, ...], Meta(max_length=50)]
Line = Annotated[
    str, Meta(max_length=8000, pattern=r"^[\t\x20-\x7e]*\Z", description="printable ASCII, as headers hold it")
]
"""The value of a header (RFC 9110 section 5.5), without obsolete characters."""
Variable = Annotated[str, Meta(max_length=8000, pattern=r"^[^\x00]*\Z", description="a text without NUL")]
Variables = Annotated[dict[str, Variable], Meta(max_length=100)]
HeaderLines = Annotated[dict[str, Line], Meta(max_length=50)]
AuthScopes = Annotated[
    tuple[Annotated[str, Meta(max_length=200, pattern=r"^[!#-\[\]-~]+\Z", description="a scope of OAuth")], ...],
    Meta(max_length=100),
]
"""Scopes (RFC 6749 section 3.3)."""
ToolNames = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=255)], ...], Meta(max_length=500)]
ByAgent = Annotated[dict[str, ToolNames], Meta(max_length=500)]


class Mcp(Struct, frozen=True, kw_only=True):
    """The plugin's settings."""

    mcp_stdio: Annotated[
        Literal["off", "admin", "on"],
        Meta(description="who may set up MCP servers that are commands: nobody, callers with the scope admin, or all"),
    ] = "admin"
    mcp_stdio_memory_mb: Annotated[int, Meta(ge=0, description="most memory of such a command in MiB; 0: any")] = 2048
    mcp_stdio_cpu: Annotated[Duration, Meta(description="most CPU time of such a command; 0: any")] = Duration(3600)
    mcp_connect_timeout: Annotated[Duration, Meta(description="longest wait for an MCP server to begin")] = Duration(30)
    mcp_probe_timeout: Annotated[
        Duration, Meta(description="wait for an answer in the newest version of MCP, before an older one; 0: no try")
    ] = Duration(3)
    mcp_turn_wait: Annotated[
        Duration, Meta(description="longest wait of a turn for an MCP server of its agent that is away; 0: none")
    ] = Duration(30)
    mcp_call_timeout: Annotated[
        Duration, Meta(description="longest wait for an MCP tool, counted anew from each progress that it reports")
    ] = Duration(30)
    mcp_sampling: Annotated[
        Literal["off", "on"],
        Meta(description="whether MCP servers with `sampling` may have models answer them, at this engine's expense"),
    ] = "off"
    mcp_call_max: Annotated[Duration, Meta(description="longest run of an MCP tool that reports progress")] = Duration(
        600
    )


class NewServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An MCP server to create; without `type` one with a `command` is stdio, one with a `url` streamable HTTP.

    `allow_tools` are those that agents get, all if it is null, `deny_tools` those that they do not; `agent_tools`
    narrows further, by agent. All three hold the server's own names. `auth_key_env` names a variable of `env` in place
    of `auth_key`.

    With `auth_type` oauth2 each user authorizes the engine at POST /api/v1/connections/{server}, unless `auth_grant` is
    client_credentials. `auth_client_id` is a client that the operator has registered at `auth_issuer`, with `auth_key`
    as its secret; without one the engine registers itself. `auth_scopes` are asked for in place of the server's own.

    With `elicitation` its tools may ask the person of the turn. With `sampling`, and with BYTEBREW_MCP_SAMPLING on,
    they may have a model answer: `sampling_model`, or else that of the agent, with `sampling_max_tokens` at most. With
    `resources` its agents get tools that list and read its resources.
    """

    name: Name
    type: Type | None = None
    command: Text = ""
    args: Texts = ()
    url: Url = ""
    env: Variables = {}
    headers: HeaderLines = {}
    forward_headers: Headers = ()
    auth_type: AuthType = "none"
    auth_header: Token = "X-API-Key"
    auth_key: Line | None = ""
    auth_key_env: Annotated[str, Meta(max_length=200)] = ""
    auth_grant: AuthGrant = "authorization_code"
    auth_client_id: Line = ""
    auth_issuer: Url = ""
    auth_scopes: AuthScopes = ()
    pin: Pin = "block"
    allow_tools: ToolNames | None = None
    deny_tools: ToolNames = ()
    agent_tools: ByAgent = {}
    elicitation: bool = True
    sampling: bool = False
    sampling_model: Name | None = None
    sampling_max_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    resources: bool = False
    enabled: bool = True


class ServerPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to an MCP server: what is left out stays, an empty key and a value of `***` too; a null key goes.

    Of `args` a `***` is the one that was in its place.

    With a `url` of another origin nothing that is stored stays: the key, `headers` and `env` are then sent anew.
    """

    name: Name | UnsetType = UNSET
    type: Type | UnsetType = UNSET
    command: Text | UnsetType = UNSET
    args: Texts | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    env: Variables | UnsetType = UNSET
    headers: HeaderLines | UnsetType = UNSET
    forward_headers: Headers | UnsetType = UNSET
    auth_type: AuthType | UnsetType = UNSET
    auth_header: Token | UnsetType = UNSET
    auth_key: Line | UnsetType | None = UNSET
    auth_key_env: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    auth_grant: AuthGrant | UnsetType = UNSET
    auth_client_id: Line | UnsetType = UNSET
    auth_issuer: Url | UnsetType = UNSET
    auth_scopes: AuthScopes | UnsetType = UNSET
    pin: Pin | UnsetType = UNSET
    allow_tools: ToolNames | UnsetType | None = UNSET
    deny_tools: ToolNames | UnsetType = UNSET
    agent_tools: ByAgent | UnsetType = UNSET
    elicitation: bool | UnsetType = UNSET
    sampling: bool | UnsetType = UNSET
    sampling_model: Name | UnsetType | None = UNSET
    sampling_max_tokens: Annotated[int, Meta(ge=1, le=100_000)] | UnsetType = UNSET
    resources: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


ALIASES = {"env_vars": "env", "auth_token": "auth_key", "auth_token_env": "auth_key_env"}


class ServerRow(Struct, frozen=True, kw_only=True):
    """An MCP server as it is stored: `args`, and `env` and `headers` by name, each value encrypted, in base64."""

    id: str
    name: str
    type: Type
    command: str
    args: tuple[str, ...]
    url: str
    env: dict[str, str]
    headers: dict[str, str]
    forward_headers: tuple[str, ...]
    auth_type: AuthType
    auth_header: str
    sealed_key: str
    auth_key_env: str
    auth_grant: AuthGrant
    auth_client_id: str
    auth_issuer: str
    auth_scopes: tuple[str, ...]
    pin: Pin
    allow_tools: tuple[str, ...] | None
    deny_tools: tuple[str, ...]
    agent_tools: dict[str, tuple[str, ...]]
    elicitation: bool
    sampling: bool
    sampling_model: str | None
    sampling_max_tokens: int
    resources: bool
    enabled: bool
    created_at: str
    updated_at: str

    def allows(self, agent: str, tool: str) -> bool:
        """Whether the filters allow an agent this tool."""
        allowed = self.allow_tools is None or tool in self.allow_tools
        return allowed and tool not in self.deny_tools and tool in self.agent_tools.get(agent, (tool,))


class Status(Struct, frozen=True, kw_only=True):
    """How a server is at this moment; `tries` count the failed attempts since it was last connected for long."""

    status: State
    status_message: str = ""
    tools_count: int = 0
    connected_at: str | None = None
    protocol_version: str | None = None
    tries: int = 0
    last_error: str | None = None
    last_error_at: str | None = None


class Decision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which definition of a tool is decided on: the one with the digest that a person has seen, or else the current."""

    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="a digest of 64 hex digits")] | UnsetType = (
        UNSET
    )


class Approved(Struct, frozen=True, kw_only=True):
    """The definition that agents had from the first or since it was approved; all but the digest may be unknown.

    `at` is when it was approved, by whom says `by`; both are null for the definition that was seen first.
    """

    digest: str
    at: str | None
    by: str | None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None


class Withheld(Struct, frozen=True, kw_only=True):
    """Who has decided to keep a tool's current definition from agents, and when."""

    at: str
    by: str


class ShownTool(Struct, frozen=True, kw_only=True):
    """A tool as its server defines it now; of one that has changed since, `approved` is what it was.

    A `new` one waits to be approved for the first time.

    `digest` stands for all of the definition that counts. Invisible characters in it are shown by their numbers, as in
    `[U+202E]`. `agents` are those that have its server and whose filters let it through; `withheld` is set where a
    person has decided to keep this definition from them.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    annotations: dict[str, Any] | None
    digest: str
    state: Literal["available", "changed", "withheld", "new"]
    security_zone: Risk
    agents: tuple[str, ...]
    first_seen_at: str | None
    changed_at: str | None
    approved: Approved | None
    withheld: Withheld | None


class Server(Struct, frozen=True, kw_only=True):
    """An MCP server with its state, its tools and the agents that name it; its secrets are masked.

    `warnings` say what its filters name and is not there.
    """

    id: str
    name: str
    type: Type
    command: str
    args: tuple[str, ...]
    url: str
    env: dict[str, str]
    env_vars: dict[str, str]
    headers: dict[str, str]
    forward_headers: tuple[str, ...]
    auth_type: AuthType
    auth_header: str
    has_auth_key: bool
    auth_key_env: str
    auth_grant: AuthGrant
    auth_client_id: str
    auth_issuer: str
    auth_scopes: tuple[str, ...]
    pin: Pin
    allow_tools: tuple[str, ...] | None
    deny_tools: tuple[str, ...]
    agent_tools: dict[str, tuple[str, ...]]
    elicitation: bool
    sampling: bool
    sampling_model: str | None
    sampling_max_tokens: int
    resources: bool
    enabled: bool
    status: Live[Status]
    tools: Live[tuple[ShownTool, ...]]
    agents: tuple[str, ...]
    warnings: Live[tuple[str, ...]]
    created_at: str
    updated_at: Live[str]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL; ValueError without a host, or with a user."""
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError("it names no host, or a user and password, which belong in a header")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
