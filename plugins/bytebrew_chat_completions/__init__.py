"""The OpenAI chat completions wire, once, and the vendors that speak it."""

from .vendors import azure_openai, deepseek, mistral, openai_compatible, openrouter, xai, zai
from .wire import ChatCompletions

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
