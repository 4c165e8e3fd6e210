"""What plugin authors import."""

from typing import TYPE_CHECKING

from bytebrew.api import ANYONE, Guard, Reply, Request, Route, Stream
from bytebrew.auth import SCOPES, Actor, AuthMode
from bytebrew.catalog import CatalogEntry, CatalogModel, CatalogProvider
from bytebrew.config import Agent
from bytebrew.errors import (
    BootError,
    Conflict,
    Detail,
    EngineError,
    Forbidden,
    InvalidRequest,
    NotFound,
    ProviderError,
    SettingsError,
    ToolError,
    Unauthorized,
    Unprocessable,
)
from bytebrew.events import Event, MessageDelta, Thinking
from bytebrew.hookspecs import Migration, hookimpl
from bytebrew.http import Http, UpstreamError
from bytebrew.jwt import BadToken, PublicKeys, SigningKey, read_public_keys, sign, verify
from bytebrew.messages import Attachment, Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage
from bytebrew.notation import Duration
from bytebrew.providers import Capabilities, Provider, ProviderEvent, refusal
from bytebrew.secrets import write_private
from bytebrew.settings import Core, Settings
from bytebrew.sse import ServerSentEvent
from bytebrew.tools import Call, Outcome, Result, Risk, Tool, Toolset, tool

if TYPE_CHECKING:
    from bytebrew.engine import Engine as Engine
    from bytebrew.runner import Turn as Turn

__all__ = [
    "ANYONE",
    "SCOPES",
    "Actor",
    "Agent",
    "Attachment",
    "AuthMode",
    "BadToken",
    "BootError",
    "Call",
    "Capabilities",
    "CatalogEntry",
    "CatalogModel",
    "CatalogProvider",
    "Conflict",
    "Core",
    "Detail",
    "Duration",
    "EngineError",
    "Event",
    "Forbidden",
    "Guard",
    "Http",
    "InvalidRequest",
    "Message",
    "MessageDelta",
    "Migration",
    "ModelRequest",
    "NotFound",
    "Outcome",
    "Provider",
    "ProviderError",
    "ProviderEvent",
    "PublicKeys",
    "Reply",
    "Request",
    "Result",
    "Risk",
    "Route",
    "ServerSentEvent",
    "Settings",
    "SettingsError",
    "SigningKey",
    "Stop",
    "Stream",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolSpec",
    "Toolset",
    "Unauthorized",
    "Unprocessable",
    "UpstreamError",
    "Usage",
    "hookimpl",
    "read_public_keys",
    "refusal",
    "sign",
    "tool",
    "verify",
    "write_private",
]
