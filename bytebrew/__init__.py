"""What plugin authors import."""

from typing import TYPE_CHECKING

from bytebrew.actions import Action
from bytebrew.api import (
    ANYONE,
    FORMAT,
    NDJSON,
    Guard,
    Moment,
    Parameter,
    Record,
    Reply,
    Request,
    Route,
    Stream,
    moment,
    positive,
    wants_lines,
)
from bytebrew.auth import SCOPES, Actor, AuthMode
from bytebrew.bounds import Bounds, Intake
from bytebrew.breaker import Breaker
from bytebrew.catalog import CatalogEntry, CatalogModel, CatalogProvider
from bytebrew.config import Agent, Capability, KnowledgeConfig, Live, MemoryConfig, Name, NewTask, Task, TaskPatch, Url
from bytebrew.connection import Connection
from bytebrew.deadline import Deadline, within
from bytebrew.errors import (
    BootError,
    Conflict,
    Detail,
    EngineError,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    ProviderError,
    SettingsError,
    ToolError,
    Unauthorized,
    Unprocessable,
    UnsupportedMediaType,
)
from bytebrew.events import Event, MessageDelta, Notice, Risk, Thinking
from bytebrew.hookspecs import Migration, Opened, Recorder, Register, Sample, Step, hookimpl
from bytebrew.http import Answer, Exchange, Http, UpstreamError
from bytebrew.jwt import BadToken, PublicKeys, SigningKey, read_public_keys, sign, verify
from bytebrew.listing import Listing, Selection, kept_counts, rows_of
from bytebrew.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.notation import Duration, new_uuid, now, uptime
from bytebrew.options import Option, expired_before
from bytebrew.paging import AFTER, OFFSET, NumberedPage, Page, offset_of, page_numbers, page_of, page_window
from bytebrew.providers import Capabilities, Provider, ProviderEvent, Target, refusal
from bytebrew.secrets import masked, write_private
from bytebrew.sections import ConfigSection
from bytebrew.settings import Core, Settings
from bytebrew.sse import ServerSentEvent
from bytebrew.tools import Call, Outcome, Result, SpawnLimits, Tool, Toolset, input_schema, tool
from bytebrew.variables import environment, escaped, filled, resolved
from bytebrew.versions import CONTRACT, __version__
from bytebrew.visibility import visible

if TYPE_CHECKING:
    from bytebrew.engine import Engine as Engine
    from bytebrew.runner import Turn as Turn

__all__ = [
    "AFTER",
    "ANYONE",
    "CONTRACT",
    "FORMAT",
    "NDJSON",
    "OFFSET",
    "SCOPES",
    "Action",
    "Actor",
    "Agent",
    "Answer",
    "Attachment",
    "AuthMode",
    "BadToken",
    "BootError",
    "Bounds",
    "Breaker",
    "Call",
    "Capabilities",
    "Capability",
    "CatalogEntry",
    "CatalogModel",
    "CatalogProvider",
    "ConfigSection",
    "Conflict",
    "Connection",
    "Core",
    "Deadline",
    "Detail",
    "Duration",
    "EngineError",
    "Event",
    "Exchange",
    "Forbidden",
    "Guard",
    "Http",
    "Intake",
    "InvalidRequest",
    "KnowledgeConfig",
    "Listing",
    "Live",
    "MemoryConfig",
    "Message",
    "MessageDelta",
    "Migration",
    "ModelRequest",
    "Moment",
    "Name",
    "NewTask",
    "NotFound",
    "Notice",
    "NumberedPage",
    "Opened",
    "Option",
    "Outcome",
    "Page",
    "Parameter",
    "PayloadTooLarge",
    "Provider",
    "ProviderError",
    "ProviderEvent",
    "PublicKeys",
    "Record",
    "Recorder",
    "Register",
    "Reply",
    "Request",
    "Result",
    "Risk",
    "Route",
    "Sample",
    "Selection",
    "ServerSentEvent",
    "Settings",
    "SettingsError",
    "SigningKey",
    "SpawnLimits",
    "Step",
    "Stop",
    "Stream",
    "Target",
    "Task",
    "TaskPatch",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolSpec",
    "Toolset",
    "Unauthorized",
    "Unprocessable",
    "UnsupportedMediaType",
    "UpstreamError",
    "Url",
    "Usage",
    "__version__",
    "environment",
    "escaped",
    "expired_before",
    "filled",
    "hookimpl",
    "input_schema",
    "kept_counts",
    "masked",
    "moment",
    "new_uuid",
    "now",
    "offset_of",
    "page_numbers",
    "page_of",
    "page_window",
    "positive",
    "read_public_keys",
    "refusal",
    "resolved",
    "rows_of",
    "sign",
    "tool",
    "uptime",
    "verify",
    "visible",
    "wants_lines",
    "within",
    "write_private",
]
