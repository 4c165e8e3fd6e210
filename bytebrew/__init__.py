"""What plugin authors import."""

from typing import TYPE_CHECKING

from bytebrew.base.circuit_breaker import Breaker
from bytebrew.base.env_variables import environment, escaped, filled, resolved
from bytebrew.base.errors import (
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
from bytebrew.base.formats import Duration, new_uuid, now, uptime
from bytebrew.base.http_client.answer_limits import Bounds, Intake
from bytebrew.base.http_client.client import Answer, Exchange, Http, UpstreamError
from bytebrew.base.jwt import BadToken, PublicKeys, SigningKey, read_public_keys, sign, verify
from bytebrew.base.masking import (
    MASK,
    Masker,
    argument_credentials,
    argument_values,
    is_credential,
    masked,
    masker,
)
from bytebrew.base.rolling_timeout import Deadline, within
from bytebrew.base.secrets import write_private
from bytebrew.base.settings import Core, Settings
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.base.visible_text import visible
from bytebrew.contract.action import Action
from bytebrew.contract.auth import Actor, AuthMode, Scope, Scopes
from bytebrew.contract.catalog import CatalogEntry, CatalogModel, CatalogProvider
from bytebrew.contract.config_section import ConfigSection
from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.engine import TRAFFIC
from bytebrew.contract.entities import (
    Agent,
    Capability,
    KnowledgeConfig,
    Live,
    MemoryConfig,
    Name,
    NewTask,
    Task,
    TaskPatch,
    Url,
)
from bytebrew.contract.events import Event, MessageDelta, Notice, Risk, Thinking
from bytebrew.contract.hookspecs import Migration, Opened, Recorder, Register, Sample, Step, hookimpl
from bytebrew.contract.lists import AFTER, OFFSET, NumberedPage, Page, offset_of, page_numbers, page_of, page_window
from bytebrew.contract.long_lists import Listing, Selection, kept_counts, rows_of
from bytebrew.contract.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.contract.provider import Capabilities, Fault, Provider, ProviderEvent, Target, failure, refusal
from bytebrew.contract.route import (
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
from bytebrew.contract.runtime_option import Option, expired_before
from bytebrew.contract.tool import Call, Outcome, Result, SpawnLimits, Tool, Toolset, input_schema, tool
from bytebrew.version import CONTRACT, __version__

if TYPE_CHECKING:
    from bytebrew.conversation.turn import Turn as Turn
    from bytebrew.engine import Engine as Engine

__all__ = [
    "AFTER",
    "ANYONE",
    "CONTRACT",
    "FORMAT",
    "MASK",
    "NDJSON",
    "OFFSET",
    "TRAFFIC",
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
    "Fault",
    "Forbidden",
    "Guard",
    "Http",
    "Intake",
    "InvalidRequest",
    "KnowledgeConfig",
    "Listing",
    "Live",
    "Masker",
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
    "Row",
    "Sample",
    "Scope",
    "Scopes",
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
    "argument_credentials",
    "argument_values",
    "environment",
    "escaped",
    "expired_before",
    "failure",
    "filled",
    "hookimpl",
    "input_schema",
    "is_credential",
    "kept_counts",
    "masked",
    "masker",
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
