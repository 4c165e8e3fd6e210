"""Test kit for plugin authors: an engine with a temporary data folder, a client, a scripted provider, and checks."""

from bytebrew.testing.conformance import CHECKS, THOUGHTS, WORDS, Check, Wire, provider_conformance
from bytebrew.testing.engines import (
    ADMIN,
    ScriptedProvider,
    Step,
    chat,
    client,
    engine,
    events_of,
    names,
    plugin,
    providing,
    scripted_schema,
    served_engine,
    token,
)
from bytebrew.testing.plugin_checks import PLUGIN_CHECKS, PluginCheck, PluginSubject, plugin_conformance

__all__ = [
    "ADMIN",
    "CHECKS",
    "PLUGIN_CHECKS",
    "THOUGHTS",
    "WORDS",
    "Check",
    "PluginCheck",
    "PluginSubject",
    "ScriptedProvider",
    "Step",
    "Wire",
    "chat",
    "client",
    "engine",
    "events_of",
    "names",
    "plugin",
    "plugin_conformance",
    "provider_conformance",
    "providing",
    "scripted_schema",
    "served_engine",
    "token",
]
