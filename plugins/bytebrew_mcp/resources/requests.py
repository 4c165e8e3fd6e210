"""Requests about resources, as calls of tools that no server defines."""

from collections.abc import Mapping
from typing import Any

from ..tool_definitions import Definition

LIST = Definition(
    name="list_resources",
    description="Lists the resources of the server '{}', which can be read by their uri.",
    input_schema={
        "type": "object",
        "properties": {"cursor": {"type": "string", "description": "nextCursor of the page before"}},
        "additionalProperties": False,
    },
)
READ = Definition(
    name="read_resource",
    description="Reads a resource of the server '{}'.",
    input_schema={
        "type": "object",
        "properties": {"uri": {"type": "string", "description": "as list_resources has it"}},
        "required": ["uri"],
        "additionalProperties": False,
    },
)


def request_of(tool: Definition, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method and the parameters of a call of a tool."""
    if tool is READ:
        return "resources/read", {"uri": arguments["uri"]}
    if tool is LIST:
        return "resources/list", dict(arguments)
    return "tools/call", {"name": tool.name, "arguments": dict(arguments)}


def answer_of(tool: Definition, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as the result of a tool."""
    if tool is LIST:
        return {"structuredContent": {name: answer[name] for name in ("resources", "nextCursor") if name in answer}}
    if tool is READ:
        contents = answer.get("contents")
        blocks = contents if isinstance(contents, list) else []
        return {"content": [{"type": "resource", "resource": one} for one in blocks]}
    return answer
