"""Settings: every variable of the table is read, typed, and does what its help says."""

import ast
from pathlib import Path

import anyio
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew import Core, Duration, MessageDelta, ProviderError, SettingsError, ToolCall, tool
from bytebrew.base.http_client.client import Http
from bytebrew.base.settings import read, rows
from bytebrew.plugins import Plugins
from bytebrew.testing import ADMIN, ScriptedProvider, chat, engine, plugin, providing, scripted_schema, served_engine
from tests.commands import install, run

OTHERS = ("databases.py", "postgres.py", "bucket_blobs.py")
"""The kit for tests asks which store the run is for; a bucket has the variables that all clients of S3 read."""
EXAMPLES: dict[str, tuple[str, object]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "data_dir": ("/srv/bytebrew", Path("/srv/bytebrew")),
    "database_url": ("postgresql://one@two/three", "postgresql://one@two/three"),
    "workers": ("4", 4),
    "config": ("/srv/bytebrew.yaml", Path("/srv/bytebrew.yaml")),
    "public_url": ("https://agents.example", "https://agents.example"),
    "token": (ADMIN, ADMIN),
    "auth_mode": ("external", "external"),
    "db_synchronous": ("full", "full"),
    "disabled_plugins": ("demo, auth_external,", ("demo", "auth_external")),
    "plugins_dir": ("/srv/plugins", Path("/srv/plugins")),
    "drain_seconds": ("1m30s", Duration(90)),
    "trusted_proxies": ("10.0.0.7, fd00::/8", ("10.0.0.7/32", "fd00::/8")),
    "cors_origins": ("https://a.example, http://localhost:3000", ("https://a.example", "http://localhost:3000")),
    "max_body_bytes": ("2048", 2048),
    "max_upload_bytes": ("4096", 4096),
    "max_turns": ("100", 100),
    "queued_per_session": ("5", 5),
    "queued_per_caller": ("50", 50),
    "queued_bytes": ("1000000", 1_000_000),
    "max_connections": ("100", 100),
    "tool_timeout": ("250ms", Duration(0.25)),
    "tool_output_bytes": ("1024", 1024),
    "confirmation_ttl": ("2h", Duration(7200)),
    "task_workers": ("0", 0),
    "tasks_per_agent": ("2", 2),
    "task_timeout": ("1h", Duration(3600)),
    "task_retries": ("0", 0),
    "provider_connect_timeout": ("5", Duration(5)),
    "provider_first_byte_timeout": ("5m", Duration(300)),
    "provider_silence_timeout": ("30s", Duration(30)),
    "link_local_addresses": ("169.254.169.254", ("169.254.169.254",)),
    "provider_retries": ("0", 0),
    "answer_bytes": ("65536", 65536),
    "step_tool_calls": ("1", 1),
    "turn_events": ("1000", 1000),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
}
BAD = {
    "port": ("http", "-1", "65536", "80.5"),
    "db_synchronous": ("off", "FULL"),
    "drain_seconds": ("soon", "-1s"),
    "max_body_bytes": ("1023", "1MB"),
    "max_upload_bytes": ("1023", "50MB"),
    "tool_output_bytes": ("1",),
    "confirmation_ttl": ("a day", "-1"),
    "task_workers": ("-1", "many", "1001"),
    "tasks_per_agent": ("-1",),
    "task_timeout": ("soon",),
    "task_retries": ("101", "-1"),
    "provider_retries": ("11", "-1", "many"),
    "answer_bytes": ("4095", "4MB"),
    "step_tool_calls": ("0",),
    "turn_events": ("999",),
    "log_level": ("loud",),
    "log_format": ("xml",),
}


def variable(field: str) -> str:
    return f"BYTEBREW_{field.upper()}"


def test_every_setting_of_the_core_has_an_example_here() -> None:
    assert {field.name for field in msgspec.structs.fields(Core)} == set(EXAMPLES)


@pytest.mark.parametrize("field", EXAMPLES)
def test_a_setting_is_read_and_typed(field: str) -> None:
    text, value = EXAMPLES[field]
    found = getattr(read({variable(field): text}, [Core]).core, field)
    assert (found, type(found)) == (value, type(value))
    assert found != getattr(Core(), field)


@pytest.mark.parametrize(("field", "text"), [(field, text) for field, texts in BAD.items() for text in texts])
def test_a_value_that_does_not_fit_is_refused_by_its_variables_name(field: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable(field)}: "):
        read({variable(field): text}, [Core])


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("port", "give a whole number from 0 to 65535"),
        ("max_body_bytes", "give a whole number from 1024"),
        ("db_synchronous", "give full or normal"),
        ("drain_seconds", "'soon' is not a duration: write it like 90s, 15m or 1h30m"),
    ],
)
def test_what_would_fit_is_told_in_words(field: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read({variable(field): "soon"}, [Core])
    assert str(refused.value) == f"{variable(field)}: {words}"


@pytest.mark.parametrize("field", EXAMPLES)
def test_an_empty_value_is_the_default(field: str) -> None:
    assert read({variable(field): ""}, [Core]).core == Core()


def test_the_address_that_clients_read_is_no_fault_in_the_shell_of_a_command() -> None:
    assert read({"BYTEBREW_URL": "https://agents.example", "BYTEBREW_TOKEN": "bb_1"}, [Core]).core == Core(token="bb_1")


def test_every_fault_is_named_and_an_unknown_variable_with_the_nearest() -> None:
    given = {"BYTEBREW_PROT": "1", "BYTEBREW_PORT": "x", "BYTEBREW_LOG_LEVEL": "loud", "BYTEBREW_ZZ": "1", "PORT": "x"}
    with pytest.raises(SettingsError) as refused:
        read(given, [Core])
    faults = str(refused.value).splitlines()
    assert faults[0] == "BYTEBREW_PROT is not a setting; did you mean BYTEBREW_PORT?"
    assert [fault.split(":")[0].split()[0] for fault in faults[1:]] == [
        "BYTEBREW_ZZ",
        "BYTEBREW_PORT",
        "BYTEBREW_LOG_LEVEL",
    ]


@given(st.dictionaries(st.sampled_from([variable(field) for field in EXAMPLES]), st.text(max_size=20)))
def test_no_text_breaks_the_reading(environment: dict[str, str]) -> None:
    try:
        read(environment, [Core])
    except SettingsError as error:
        assert str(error).startswith("BYTEBREW_")


def test_the_originals_names_are_aliases_and_give_way_to_the_names_of_their_own() -> None:
    original = {"ENGINE_HOST": "::1", "ENGINE_PORT": "1", "DATA_DIR": "/a"}
    core = read(original, [Core]).core
    assert (core.host, core.port, core.data_dir) == ("::1", 1, Path("/a"))
    assert read({**original, "BYTEBREW_PORT": "2"}, [Core]).core.port == 2
    with pytest.raises(SettingsError, match=r"^ENGINE_PORT: "):
        read({"ENGINE_PORT": "x"}, [Core])


def test_every_row_has_its_default_and_its_help() -> None:
    table = {row.variable: row for row in rows([Core])}
    assert list(table) == [variable(field) for field in EXAMPLES]
    assert all(row.help for row in table.values())
    assert (table["BYTEBREW_PORT"].default, table["BYTEBREW_DRAIN_SECONDS"].default) == ("8443", "20s")
    defaults = {row.variable: row.default for row in table.values()}
    assert read(defaults, [Core]).core == Core()


def test_the_defaults_that_are_shown_are_what_is_read_for_every_plugin_too() -> None:
    plugins = Plugins()
    plugins.load((), None)
    tables = plugins.tables()
    found = read({row.variable: row.default for row in rows(tables)}, tables)
    assert len(tables) > 1
    for table in tables:
        assert found.of(table) == table()


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("local_session_ttl", "2h", Duration(7200)),
        ("local_session_from", "10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        ("local_session_secret", "open sesame, open wide", "open sesame, open wide"),
        ("jwt_keys_dir", "/keys", Path("/keys")),
        ("jwt_public_key_path", "/keys/issuer.pub", Path("/keys/issuer.pub")),
        ("jwt_issuer", "https://issuer.example", "https://issuer.example"),
        ("jwt_audience", "bytebrew", "bytebrew"),
        ("external_default_scopes", "chat,tasks", ("chat", "tasks")),
    ],
)
def test_the_auth_modes_settings_are_read_and_typed(field: str, text: str, value: object) -> None:
    plugins = Plugins()
    plugins.load((), None)
    tables = plugins.tables()
    (table,) = (table for table in tables if field in table.__struct_fields__)
    found = getattr(read({variable(field): text}, tables).of(table), field)
    assert (found, type(found)) == (value, type(value))


def test_no_file_reads_the_environment_past_the_table() -> None:
    root = Path(__file__).parents[2]
    for path in (*root.glob("bytebrew/**/*.py"), *root.glob("plugins/**/*.py")):
        read_here = any(
            isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            for node in ast.walk(ast.parse(path.read_text()))
        )
        assert not read_here or path.name in ("main.py", "env_variables.py", *OTHERS), f"{path} reads the environment"


# What each setting does, where no other file of tests shows it


@pytest.mark.sqlite
async def test_db_synchronous_is_the_files_pragma() -> None:
    for value, pragma in (("normal", 1), ("full", 2)):
        async with engine(settings={"BYTEBREW_DB_SYNCHRONOUS": value}) as running:
            assert await running.db.write(lambda conn: conn.execute("pragma synchronous").fetchone()[0]) == pragma


async def test_max_body_bytes_limits_a_body() -> None:
    async with served_engine(settings={"BYTEBREW_MAX_BODY_BYTES": "1024"}) as (_, client):
        for size, status in ((1024, 400), (1025, 413)):
            assert (await client.post("/api/v1/models", content=b" " * size)).status_code == status


async def test_max_upload_bytes_limits_a_body_that_may_carry_files_instead() -> None:
    settings = {"BYTEBREW_MAX_BODY_BYTES": "1024", "BYTEBREW_MAX_UPLOAD_BYTES": "2048"}
    async with served_engine(settings=settings) as (_, client):
        for size, status in ((2048, 400), (2049, 413)):
            assert (await client.post("/api/v1/schemas/demo/chat", content=b" " * size)).status_code == status


@tool
async def sleep_and_tell() -> str:
    """Takes its time and says much."""
    await anyio.sleep(0.5)
    return "x" * 1000


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BYTEBREW_TOOL_TIMEOUT", "10ms", "did not finish within 0.01 s"),
        ("BYTEBREW_TOOL_OUTPUT_BYTES", "256", "[cut: 256 of 1000 characters; "),
    ],
)
async def test_a_tool_has_its_time_and_its_length(name: str, value: str, words: str) -> None:
    provider = ScriptedProvider([ToolCall("sleep_and_tell", {})], [MessageDelta(content="ok")])
    own = plugin(register_tools=lambda register: register(sleep_and_tell))
    async with served_engine(own, providing(provider), settings={name: value}) as (running, client):
        await scripted_schema(running, tools=("sleep_and_tell",))
        events = await chat(client, "test", "go")
    assert words in next(event.data for event in events if event.event == "tool_result")


@pytest.mark.parametrize("retries", [0, 1])
async def test_provider_retries_counts_further_tries(retries: int) -> None:
    failure = ProviderError("busy", code="model_overloaded", retry=True, retry_after=0)
    provider = ScriptedProvider([failure])
    async with served_engine(providing(provider), settings={"BYTEBREW_PROVIDER_RETRIES": str(retries)}) as (
        running,
        client,
    ):
        await scripted_schema(running)
        assert '"code":"model_overloaded"' in (await chat(client, "test", "go"))[-1].data
    assert len(provider.requests) == 1 + retries


async def test_the_clients_time_limits_are_the_settings() -> None:
    given = {"BYTEBREW_PROVIDER_CONNECT_TIMEOUT": "7", "BYTEBREW_PROVIDER_SILENCE_TIMEOUT": "8"}
    http = Http(read(given, [Core]).core)
    assert http.client("https://vendor.example").timeout == httpx.Timeout(8, connect=7, pool=None)
    await http.aclose()


async def test_provider_first_byte_timeout_ends_the_wait() -> None:
    async def silent(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    settings = read({"BYTEBREW_PROVIDER_FIRST_BYTE_TIMEOUT": "50ms"}, [Core]).core
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, silent)
        http = Http(settings)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises(ProviderError, match=r"0\.05 s") as refused:
            async with http.stream("POST", f"http://127.0.0.1:{port}/v1"):
                pass
        assert (refused.value.code, refused.value.retry) == ("model_timeout", True)
        await http.aclose()
        group.cancel_scope.cancel()


def test_jwt_keys_dir_and_plugins_dir_take_a_folder_of_ones_own(tmp_path: Path) -> None:
    source = "from bytebrew import hookimpl\n@hookimpl\nasync def startup():\n    raise OSError('the pond is dry')\n"
    install(tmp_path / "plugins", "pond", source)
    settings = {
        "BYTEBREW_DATA_DIR": str(tmp_path / "data"),
        "BYTEBREW_JWT_KEYS_DIR": str(tmp_path / "keys"),
        "BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins"),
        "BYTEBREW_PORT": "0",
    }
    assert "plugin pond failed in startup: OSError: the pond is dry" in run("serve", settings=settings).stderr
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["jwt_ed25519.priv", "jwt_ed25519.pub"]
    assert [path.name for path in (tmp_path / "data" / "keys").iterdir()] == ["secrets.key"]
