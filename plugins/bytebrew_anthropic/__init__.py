"""The provider for the Anthropic Messages API."""

from bytebrew import Provider, Register, hookimpl

from .provider import Anthropic

__all__ = ["Anthropic"]


@hookimpl
def register_providers(register: Register[Provider]) -> None:
    register(Anthropic())
