"""OpenAI's chat completions API, and the vendors that offer it."""

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
