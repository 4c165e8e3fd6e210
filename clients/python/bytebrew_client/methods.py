"""Methods of both clients out of the same flows: blocking, and async."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from bytebrew_client.flow import Flow

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Runs(Protocol):
    """What has flows: `_flows` is the object whose methods they are, `_run` gives the result of one, or awaits it."""

    _flows: Any

    def _run(self, flow: Flow[T], /) -> Any: ...


class Blocking(Generic[P, T]):
    """A method that runs a flow to its end."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow, self.__doc__ = flow, flow.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "Blocking[P, T]": ...
    @overload
    def __get__(self, owner: Runs, kind: type) -> Callable[P, T]: ...
    def __get__(self, owner: Runs | None, kind: type) -> "Blocking[P, T] | Callable[P, T]":
        return self if owner is None else _bound(owner, self._flow)


class Async(Generic[P, T]):
    """The same as a method that is awaited."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow, self.__doc__ = flow, flow.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "Async[P, T]": ...
    @overload
    def __get__(self, owner: Runs, kind: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, owner: Runs | None, kind: type) -> "Async[P, T] | Callable[P, Awaitable[T]]":
        return self if owner is None else _bound(owner, self._flow)


def _bound(owner: Runs, flow: Callable[..., Flow[Any]]) -> Callable[..., Any]:
    @wraps(flow)
    def method(*args: Any, **kwargs: Any) -> Any:
        return owner._run(flow(owner._flows, *args, **kwargs))

    return method
