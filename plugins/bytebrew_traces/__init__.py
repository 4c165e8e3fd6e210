"""Traces: turns, model calls and tool calls as OpenTelemetry spans, made from committed rows, sent over OTLP/HTTP."""

from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import BootError, Engine, Migration, Propagator, Register, SettingsError, StateKey, hookimpl

from . import cursor
from .identifiers import traceparent_of_call
from .worker import Worker


class TraceSettings(Struct, frozen=True, kw_only=True):
    """Where traces go."""

    otlp_endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+)?\Z",
            description="base URL of a collector of traces (OTLP/HTTP); none if empty",
        ),
    ] = ""
    otlp_headers: Annotated[
        tuple[str, ...],
        Meta(description="headers for the collector: name=value, separated by commas"),
    ] = ()
    otlp_content: Annotated[bool, Meta(description="whether spans have messages, and inputs and outputs of tools")] = (
        False
    )
    otlp_name: Annotated[str, Meta(description="the service.name of all spans")] = "bytebrew"


WORKER = StateKey[Worker]("traces")


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(TraceSettings)


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, cursor.TABLES))


@hookimpl
def register_propagators(register: Register[Propagator], engine: Engine) -> None:
    if engine.settings.of(TraceSettings).otlp_endpoint:
        register(traceparent_of_call)


@hookimpl
async def startup(engine: Engine) -> None:
    settings = engine.settings.of(TraceSettings)
    if not settings.otlp_endpoint:
        return
    headers = _headers(settings.otlp_headers)
    try:
        from .spans import Spans
    except ImportError as error:
        words = "BYTEBREW_OTLP_ENDPOINT needs opentelemetry-proto, which is not installed"
        raise BootError(f"{words}: pip install 'bytebrew[traces]'") from error
    spans = Spans(settings.otlp_name, content=settings.otlp_content)
    engine.state[WORKER] = worker = Worker(engine, spans, settings.otlp_endpoint, headers)
    await worker.start()


@hookimpl
async def shutdown(engine: Engine) -> None:
    if WORKER in engine.state:
        await engine.state[WORKER].stop()


def _headers(pairs: tuple[str, ...]) -> dict[str, str]:
    """The headers by name; SettingsError for a pair that is none, which is not shown as it may be a credential."""
    headers = {}
    for n, pair in enumerate(pairs, 1):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip().isascii() or not name.strip() or not value.strip().isprintable():
            raise SettingsError(f"BYTEBREW_OTLP_HEADERS: write name=value, which number {n} is not")
        headers[name.strip()] = value.strip()
    return headers
