"""The settings of the process: one table of names, defaults and help, read from BYTEBREW_* variables."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast, get_args

import msgspec
from msgspec import Meta, Struct

from bytebrew.base.errors import SettingsError
from bytebrew.base.formats import Duration, IpNetwork

PREFIX = "BYTEBREW_"
URL = f"{PREFIX}URL"  # the address that the clients of examples/ read: no setting, but in the shells of commands
_fields = lru_cache(64)(msgspec.structs.fields)
ALIASES = {"ENGINE_HOST": "BYTEBREW_HOST", "ENGINE_PORT": "BYTEBREW_PORT", "DATA_DIR": "BYTEBREW_DATA_DIR"}

Table = TypeVar("Table", bound=Struct)


def _help(text: str) -> Meta:
    return Meta(description=text)


class Core(Struct, frozen=True, kw_only=True):
    """The core's own settings; the field `host` is read from BYTEBREW_HOST."""

    host: Annotated[str, _help("address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), _help("port to listen on; 0 takes a free one")] = 8443
    data_dir: Annotated[Path, _help("folder of everything that the engine writes")] = Path("data")
    database_url: Annotated[
        str, _help("a database that holds the data in place of the SQLite file, such as postgresql://user@host/name")
    ] = ""
    workers: Annotated[
        int,
        Meta(ge=1, le=256),
        _help("processes that share the port and the cores of this machine, with a PostgreSQL database alone"),
    ] = 1
    config: Annotated[Path | None, _help("a configuration file to take in at every boot")] = None
    public_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[A-Za-z0-9.:\[\]_-]+)?\Z",
            description="the engine's origin as people's browsers know it, such as https://agents.example",
        ),
    ] = ""
    token: Annotated[str, _help("the API token with which `bytebrew config --url` calls another engine")] = ""
    auth_mode: Annotated[str, _help("how JWTs are checked: the name of an auth mode")] = "local"
    db_synchronous: Annotated[
        Literal["normal", "full"], _help("normal survives a killed process, full survives power loss")
    ] = "normal"
    disabled_plugins: Annotated[tuple[str, ...], _help("plugins to leave out, by name, separated by commas")] = ()
    plugins_dir: Annotated[Path | None, _help("folder of more plugins, filled by pip install --target")] = None
    drain_seconds: Annotated[Duration, _help("how long SIGTERM waits for running turns")] = Duration(20)
    trusted_proxies: Annotated[
        tuple[IpNetwork, ...], _help("networks (CIDR) of proxies whose X-Forwarded-* and Forwarded headers are true")
    ] = ()
    cors_origins: Annotated[tuple[str, ...], _help("origins whose pages may call, such as https://app.example")] = ()
    max_body_bytes: Annotated[int, Meta(ge=1024), _help("largest JSON body of a request")] = 1024 * 1024
    max_upload_bytes: Annotated[int, Meta(ge=1024), _help("largest body that carries files")] = 50 * 1024 * 1024
    max_turns: Annotated[
        int, Meta(ge=0), _help("turns that run or wait at a time, more get a 503; 0 for as many as memory bears")
    ] = 0
    queued_per_session: Annotated[
        int, Meta(ge=1), _help("messages that wait in a session behind the one that is answered, more get a 429")
    ] = 32
    queued_per_caller: Annotated[
        int, Meta(ge=1), _help("messages of one caller that wait in all sessions, more get a 429")
    ] = 256
    queued_bytes: Annotated[
        int,
        Meta(ge=4096),
        _help(
            "bytes of all messages that wait, with attachments; a caller, or all visitors of a page, may have a quarter"
        ),
    ] = 256 * 1024 * 1024
    max_connections: Annotated[
        int, Meta(ge=0), _help("clients' connections at a time; 0 for as many as descriptors and memory bear")
    ] = 0
    tool_timeout: Annotated[Duration, _help("longest run of a tool that names no limit of its own")] = Duration(60)
    tool_output_bytes: Annotated[int, Meta(ge=256), _help("longest tool result that a model is given")] = 65536
    confirmation_ttl: Annotated[Duration, _help("how long a person may take to answer; 0 for as long as they like")] = (
        Duration(0)
    )
    task_workers: Annotated[int, Meta(ge=0, le=1000), _help("tasks that run at a time")] = 4
    tasks_per_agent: Annotated[int, Meta(ge=0), _help("tasks that run at a time for one agent; 0 for no limit")] = 0
    task_timeout: Annotated[Duration, _help("longest run of a task, not counting waits for a person")] = Duration(1800)
    task_retries: Annotated[int, Meta(ge=0, le=100), _help("further attempts at a task after a passing failure")] = 2
    provider_connect_timeout: Annotated[Duration, _help("longest wait for a connection to a vendor")] = Duration(10)
    provider_first_byte_timeout: Annotated[Duration, _help("longest wait for a vendor's first byte")] = Duration(120)
    provider_silence_timeout: Annotated[Duration, _help("longest silence in a vendor's stream")] = Duration(60)
    link_local_addresses: Annotated[
        tuple[str, ...], _help("link-local and metadata addresses that may be called, such as 169.254.169.254")
    ] = ()
    provider_retries: Annotated[int, Meta(ge=0, le=10), _help("further tries before a model's first token")] = 3
    answer_bytes: Annotated[
        int, Meta(ge=4096), _help("longest answer of a model: bytes of text, thinking and tool calls together")
    ] = 4 * 1024 * 1024
    step_tool_calls: Annotated[int, Meta(ge=1), _help("most tool calls that one answer of a model may ask for")] = 128
    turn_events: Annotated[int, Meta(ge=1000), _help("most events of a turn; past them it ends in an error")] = 500_000
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _help("least severe record to log")] = "info"
    log_format: Annotated[Literal["text", "json"], _help("form of a log line")] = "text"


class Row(NamedTuple):
    """A row of the settings table in --help and docs/reference/settings.md."""

    variable: str
    default: str
    help: str


class Settings:
    """Values by table: `settings.core` and, for a plugin, `settings.of(ItsTable)`.

    `sources` has the variable that each setting was read from; settings with their default are not in it.
    """

    def __init__(self, tables: Mapping[type[Struct], Struct], sources: Mapping[str, str]) -> None:
        self._tables = dict(tables)
        self.sources = dict(sources)
        self.core = self.of(Core)

    def of(self, table: type[Table]) -> Table:
        """The values of a registered table."""
        if table not in self._tables:
            raise TypeError(f"{table.__name__} was not registered with register_settings")
        return cast(Table, self._tables[table])

    def values(self) -> list[tuple[Row, Any]]:
        """Every setting with its value."""
        return [
            (row, getattr(values, field.name))
            for table, values in self._tables.items()
            for row, field in zip(_rows(table), _fields(table), strict=True)
        ]


def rows(tables: Iterable[type[Struct]]) -> list[Row]:
    """All settings of the tables; TypeError for a field without default or description."""
    return [row for table in tables for row in _rows(table)]


@lru_cache(64)  # a start reads each table three times; bounded, as a plugin folder brings new tables to each engine
def _rows(table: type[Struct]) -> tuple[Row, ...]:
    settings = []
    for field in _fields(table):
        notes = _notes(field.type)
        value = field.default
        if value is msgspec.NODEFAULT or not notes:
            raise TypeError(f"{table.__name__}.{field.name} needs a default and a Meta(description=...)")
        settings.append(Row(PREFIX + field.name.upper(), text_of(value), notes[0]))
    return tuple(settings)


def _notes(kind: Any) -> list[str]:
    return [note.description for note in get_args(kind) if isinstance(note, Meta) and note.description]


def text_of(value: object) -> str:
    """The value of a setting as text, "" for None."""
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else f"{value:g}s" if isinstance(value, Duration) else str(value)


def read(environment: Mapping[str, str], tables: Iterable[type[Struct]], *, whole: bool = True) -> Settings:
    """Reads settings from the environment; SettingsError names every unknown or invalid variable.

    With `whole=False` unknown variables may belong to tables that are not registered yet, and invalid ones keep their
    defaults: the complete reading that follows reports them.
    """
    tables = list(tables)
    sources = {name: name for name in environment if name.startswith(PREFIX) and name != URL}
    for alias, name in ALIASES.items():
        if alias in environment:
            sources.setdefault(name, alias)
    known = sorted(row.variable for row in rows(tables))
    faults = [_unknown(name, known) for name in sorted(sources) if name not in known] if whole else []
    values: dict[type[Struct], Struct] = {}
    read_from: dict[str, str] = {}
    for table in tables:
        fields: dict[str, Any] = {}
        for field in _fields(table):
            variable = PREFIX + field.name.upper()
            source = sources.get(variable, variable)
            if not (text := environment.get(source)):
                continue
            try:
                fields[field.name] = _convert(text, field.type)
                read_from[variable] = source
            except (ValueError, msgspec.ValidationError) as error:
                faults.append(f"{source}: {_wanted(field.type) or error}")
        values[table] = table(**fields)
    if faults and whole:
        raise SettingsError("\n".join(faults))
    return Settings(values, read_from)


def _inner(kind: Any) -> msgspec.inspect.Type:
    wanted = msgspec.inspect.type_info(kind)
    while isinstance(wanted, msgspec.inspect.Metadata):
        wanted = wanted.type
    return wanted


def _wanted(kind: Any) -> str:
    """The expected value of a type; the actual one may be a secret."""
    match _inner(kind):
        case msgspec.inspect.IntType(ge=least, le=most):
            ends = [f" from {least}"] * (least is not None) + [f" to {most}"] * (most is not None)
            return f"give a whole number{''.join(ends)}"
        case msgspec.inspect.FloatType():
            return "give a number"
        case msgspec.inspect.BoolType():
            return "give true or false"
        case msgspec.inspect.LiteralType(values=values):
            return f"give {' or '.join(map(str, values))}"
        case msgspec.inspect.StrType(pattern=str()):
            return f"give {_notes(kind)[0]}"
    return ""


def _convert(text: str, kind: Any) -> Any:
    listed = isinstance(_inner(kind), msgspec.inspect.VarTupleType)
    value = [part.strip() for part in text.split(",") if part.strip()] if listed else text
    return msgspec.convert(value, kind, strict=False, dec_hook=_decode)


def _decode(kind: type, text: Any) -> Any:
    if kind is Duration or kind is IpNetwork:
        return kind.parse(str(text))
    if issubclass(kind, Path):
        return Path(text)
    raise TypeError(f"a setting cannot be of type {kind.__name__}")


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], 1)
    return f"{name} is not a setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else "")
