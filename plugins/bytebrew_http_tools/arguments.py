"""Parameters of a tool: their JSON Schema for the model, and validation of its arguments."""

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct

from bytebrew import ToolError

_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
}


class Parameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One argument of a tool; with a `default` it may be left out. `items` are the JSON Schema of an array's."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: Annotated[str, Meta(max_length=20_000)] = ""
    enum: Annotated[tuple[Any, ...], Meta(max_length=500)] = ()
    required: bool = True
    default: Any = UNSET
    items: dict[str, Any] | None = None


def schema_of(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The JSON Schema of the arguments."""
    return {
        "type": "object",
        "properties": {name: _schema(parameter) for name, parameter in parameters.items()},
        "required": [name for name, one in parameters.items() if one.required and one.default is UNSET],
        "additionalProperties": False,
    }


def checked(input: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The arguments converted to their types, with defaults; ToolError for the model names an invalid one."""
    for name in input:
        if name not in parameters:
            raise ToolError(f"There is no argument '{name[:100]}'; known are {', '.join(parameters) or 'none'}")
    arguments = {}
    for name, parameter in parameters.items():
        value = input.get(name, UNSET)
        if value is UNSET or (value is None and (not parameter.required or parameter.default is not UNSET)):
            value = parameter.default
        if value is UNSET:
            if parameter.required:
                raise ToolError(f"The argument '{name}' is missing")
            continue
        try:
            arguments[name] = fitting(value, parameter)
        except ValueError as error:
            raise ToolError(f"The argument '{name}' {error}") from error
    try:
        msgspec.json.encode(arguments)
    except ValueError as error:
        raise ToolError(f"The arguments hold a text that is no Unicode: {error}") from error
    return arguments


def fitting(value: Any, parameter: Parameter, *, whole: bool = True) -> Any:
    """The value converted to the parameter's type and, with `whole`, checked against its enum; ValueError otherwise."""
    if parameter.type == "string" and isinstance(value, int | float):
        value = msgspec.json.encode(value).decode()
    try:
        value = msgspec.convert(value, _TYPES[parameter.type], strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"is no {parameter.type}") from error
    if isinstance(value, float) and not isfinite(value):  # JSON has no NaN and no infinity
        raise ValueError(f"is no {parameter.type}")
    if whole and parameter.enum and value not in (choices := _choices(parameter)):
        raise ValueError(f"is none of {msgspec.json.encode(choices).decode()}")
    return value


def _choices(parameter: Parameter) -> list[Any]:
    """The values of the enum, converted to the parameter's type."""
    return [fitting(one, parameter, whole=False) for one in parameter.enum]


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.type}
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.enum:
        schema["enum"] = _choices(parameter)
    if parameter.default is not UNSET:
        schema["default"] = fitting(parameter.default, parameter)
    if parameter.type == "array":
        schema["items"] = parameter.items or {"type": "string"}
    return schema
