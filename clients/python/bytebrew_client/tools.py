"""Tools that run in the client: functions, with the JSON Schema of their parameters out of the type hints."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints, overload

from bytebrew_client.json_schema import Definitions, convert


class Tool:
    """A function that a model may call; the first paragraph of its docstring is for the model, unless `description` is.

    A parameter annotated as `Annotated[int, "what it is"]` has a description too. TypeError for a parameter without a
    JSON type.
    """

    def __init__(self, function: Callable[..., Any], *, name: str = "", description: str = "") -> None:
        self.function = function
        self.name = name or function.__name__
        self.description = description or (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
        hints = get_type_hints(function, include_extras=True)
        definitions, properties, required = Definitions(), dict[str, Any](), list[str]()
        self._hints: dict[str, Any] = {}
        for one in inspect.signature(function).parameters.values():
            if one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL, one.VAR_KEYWORD):
                raise TypeError(f"{self.name}: the parameter {one} cannot be passed by its name")
            self._hints[one.name] = hint = hints.get(one.name, Any)
            properties[one.name] = definitions.schema(hint)
            if one.default is one.empty:
                required.append(one.name)
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        self.input_schema = definitions.whole(schema)
        self._required = required

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def run(self, input: Mapping[str, Any]) -> Any:
        """Calls the function with a model's input; ValueError if that does not fit its parameters."""
        if unknown := [name for name in input if name not in self._hints]:
            raise ValueError(f"there is no parameter {unknown[0]}; there are {', '.join(self._hints) or 'none'}")
        if missing := [name for name in self._required if name not in input]:
            raise ValueError(f"the parameter {missing[0]} is missing")
        return self.function(**{name: convert(self._hints[name], one, name) for name, one in input.items()})

    def spec(self) -> dict[str, Any]:
        """The tool as a chat declares it."""
        return {"name": self.name, "description": self.description, "input_schema": self.input_schema}


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(*, name: str = "", description: str = "") -> Callable[[Callable[..., Any]], Tool]: ...
def tool(function: Callable[..., Any] | None = None, /, *, name: str = "", description: str = "") -> Any:
    """Makes a function, async or not, a Tool: `@tool`, or `@tool(name=..., description=...)`."""
    if function is not None:
        return Tool(function)
    return lambda function: Tool(function, name=name, description=description)


AnyTool = Tool | Callable[..., Any] | Mapping[str, Any]
"""A tool, a function that becomes one, or a declaration whose calls the caller answers itself."""


def declared(tools: Iterable[AnyTool]) -> tuple[list[dict[str, Any]], dict[str, Tool]]:
    """The declarations of tools, and by their names those that are functions."""
    specs, functions = [], {}
    for one in tools:
        if isinstance(one, Mapping):
            specs.append(dict(one))
            continue
        made = one if isinstance(one, Tool) else Tool(one)
        specs.append(made.spec())
        functions[made.name] = made
    return specs, functions
