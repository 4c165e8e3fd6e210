"""OpenAI's chat completions protocol, and the vendors that speak it."""

from .provider import ChatCompletions
from .vendors import azure_openai, deepseek, mistral, openai_compatible, openrouter, xai, zai

__all__ = [
    "ChatCompletions",
    "azure_openai",
    "deepseek",
    "mistral",
    "openai_compatible",
    "openrouter",
    "xai",
    "zai",
]
