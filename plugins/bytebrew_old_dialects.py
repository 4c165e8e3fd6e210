"""Converts older formats of the configuration to sections of items by name.

The engine's format has names as keys: `agents: {sales: {model: gpt}}`. Converted are lists of items with a `name`, and
a format with `models: {providers: [...], byok: {...}}` and tools defined inside agents. An agent's `knowledge: ./docs`
becomes a knowledge base with the agent's name.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from bytebrew import ConfigDialect, Node, Place, Problem, Register, did_you_mean, hookimpl

_ELSEWHERE = {
    **dict.fromkeys(
        ("tools", "mcp_servers", "knowledge", "knowledge_bases", "rate_limits", "schedules", "triggers"), ""
    ),
    **dict.fromkeys(("webhooks", "capabilities"), ""),
    **dict.fromkeys(("engine", "database", "security", "logging", "seed"), "; set BYTEBREW_* variables instead"),
}
"""Keys without an equivalent, and what to use instead."""
_RENAMED = {"knowledge_bases": "knowledge"}
"""Sections with another name in an older format."""
_OF_AGENTS = ("knowledge", "kit", "escalation", "flow", "system_file", "rules")
"""Fields of agents without an equivalent."""
_SERVERS = "mcp_servers"
"""A section, and the field of agents that is there where the section is."""


class Item(NamedTuple):
    """An item of a section and the position of its name."""

    place: Place
    node: Node


class OldDialects(ConfigDialect):
    """The formats of ByteBrew in Go: lists of items, `byok`, and items defined inside agents."""

    sections = frozenset({"byok"})

    def convert(
        self, root: Node, known: Collection[str], note: Callable[[Problem], None], warn: Callable[[Problem], None]
    ) -> Node:
        return _Conversion(root, known, note, warn).root()


class _Conversion:
    def __init__(
        self, root: Node, known: Collection[str], note: Callable[[Problem], None], warn: Callable[[Problem], None]
    ) -> None:
        self._root, self._known, self._note, self._warn = root, known, note, warn
        self._folders: list[tuple[str, Place, Node]] = []
        self._items: dict[str, dict[str, Item]] = {}
        self._places: dict[str, Place] = {}
        self._rest: dict[str, Node] = {}

    def root(self) -> Node:
        """The converted file."""
        for key, node in self._root.value.items():
            self._section(key, node, self._root.keys[key])
        for agent, place, folder in self._folders:
            self._base(agent, place, folder)
        sections = {key: self._mapping(key, place) for key, place in self._places.items()}
        return Node(sections | self._rest, self._root.place, {**self._root.keys, **self._places})

    def _mapping(self, key: str, place: Place) -> Node:
        items = self._items.get(key, {})
        keys = {name: one.place for name, one in items.items()}
        return Node({name: one.node for name, one in items.items()}, place, keys)

    def _section(self, key: str, node: Node, place: Place) -> None:
        section = key if key in self._known else _RENAMED.get(key, key)
        if key == "byok":
            self._byok(node, "$.byok")
        elif section in self._known:
            self._places[section] = place
            for name, item in self._named(section, node):
                self._take(section, name, item)
        elif key in _ELSEWHERE:
            message = f"nothing here reads {key}{_ELSEWHERE[key]}; it was left out"
            self._warn(Problem(f"$.{key}", message, *place))
        else:
            self._rest[key] = node

    def _named(self, key: str, node: Node) -> Iterator[tuple[str, Item]]:
        if key == "models" and isinstance(node.value, dict):
            byok, listed = node.value.get("byok"), node.value.get("providers")
            if listed is not None and isinstance(listed.value, list):
                if byok is not None:
                    self._byok(byok, "$.models.byok")
                for name in node.value.keys() - {"providers", "byok"}:
                    meant = did_you_mean(name, ("providers", "byok"))
                    message = f"stands beside providers and is no model of that list{meant}"
                    self._note(Problem(f"$.models.{name[:100]}", message, *node.keys[name]))
                node = listed
        if isinstance(node.value, dict):
            for name, inner in node.value.items():
                if key == "settings" and name == "byok":
                    self._byok(inner, "$.settings.byok")
                    continue
                yield name, Item(node.keys[name], inner)
        elif isinstance(node.value, list):
            for n, inner in enumerate(node.value):
                own = inner.value.get("name") if isinstance(inner.value, dict) else None
                if own is None or not isinstance(own.value, str):
                    self._note(inner.problem(f"$.{key}[{n}]", "needs a name"))
                else:
                    yield own.value, Item(own.place, inner.without("name"))
        elif node.value is not None:
            self._note(node.problem(f"$.{key}", "is a mapping of names to items, or a list of items"))

    def _take(self, key: str, name: str, item: Item) -> None:
        items = self._items.setdefault(key, {})
        if name in items:
            message = f"'{name[:100]}' stands in line {items[name].place.line} already"
            self._note(Problem(f"$.{key}.{name}", message, *item.place))
            return
        if key == "agents" and isinstance(item.node.value, dict):
            item = Item(item.place, self._agent(name, item.node))
        items[name] = item

    def _agent(self, name: str, node: Node) -> Node:
        for one in (*_OF_AGENTS, *({_SERVERS} - {*self._known})):
            if one not in node.value:
                continue
            if one == "knowledge" and one in self._known:
                self._folders.append((name, node.keys[one], node.value[one]))
            elif one != _SERVERS or node.value[one].value:  # every agent of an export has the list
                message = f"nothing here reads {one} of an agent; it was left out"
                self._warn(Problem(f"$.agents.{name}.{one}", message, *node.keys[one]))
            node = node.without(one)
        tools = node.value.get("tools")
        if tools is None or not isinstance(tools.value, dict):
            return node
        path = f"$.agents.{name}.tools"
        for key in tools.value.keys() - {"builtin", "custom", _SERVERS}:
            text = f"is none of builtin, custom, mcp_servers{did_you_mean(key, ('builtin', 'custom', _SERVERS))}"
            self._note(Problem(f"{path}.{key[:100]}", text, *tools.keys[key]))
        names = list(_list(tools.value.get("builtin")))
        for key, own in self._inline("tools", tools.value.get("custom"), f"{path}.custom"):
            names.append(Node(key, own.place))
            self._share("tools", key, own)
        written = {"tools": Node(names, tools.place)}
        if _SERVERS not in self._known:
            if servers := tools.value.get(_SERVERS):
                self._warn(servers.problem(f"{path}.{_SERVERS}", f"nothing here reads {_SERVERS}; it was left out"))
            return Node({**node.value, **written}, node.place, node.keys)
        named = list(_list(node.value.get(_SERVERS)))
        for key, own in self._inline(_SERVERS, tools.value.get(_SERVERS), f"{path}.{_SERVERS}"):
            named.append(Node(key, own.place))
            if isinstance(own.node.value, dict):
                self._share(_SERVERS, key, _narrowed(own, name))
        written[_SERVERS] = Node(named, tools.place)
        keys = {**node.keys, "tools": node.keys["tools"]}
        keys.setdefault(_SERVERS, node.keys["tools"])
        return Node({**node.value, **written}, node.place, keys)

    def _inline(self, key: str, node: Node | None, path: str) -> Iterator[tuple[str, Item]]:
        if node is None or node.value is None:
            return
        if isinstance(node.value, list) and all(isinstance(one.value, str) for one in node.value):
            for one in node.value:
                yield one.value, Item(one.place, Node(None, one.place))
        elif key in self._known:
            yield from self._named(key, node)
        else:
            self._warn(node.problem(path, f"nothing here reads {key}; only its names were taken"))
            yield from ((name, Item(item.place, Node(None, item.place))) for name, item in self._named(key, node))

    def _share(self, key: str, name: str, item: Item) -> None:
        """Adds an item that several agents may define identically, each with its own tools of a server."""
        if item.node.value is None:
            return
        items = self._items.setdefault(key, {})
        self._places.setdefault(key, item.place)
        first = items.setdefault(name, item)
        if first is item:
            return
        ours, theirs = _parted(first.node), _parted(item.node)
        if ours[0] != theirs[0]:
            message = f"'{name[:100]}' is written out differently in line {first.place.line}"
            self._note(Problem(f"$.{key}.{name}", message, *item.place))
        elif theirs[1] is not None and ours[1] is not None:
            ours[1].value.update(theirs[1].value)
            ours[1].keys.update(theirs[1].keys)
        elif theirs[1] is not None:
            first.node.value["agent_tools"], first.node.keys["agent_tools"] = theirs[1], item.place

    def _base(self, agent: str, place: Place, folder: Node) -> None:
        """Adds the knowledge base for an agent's `knowledge: ./docs`, which may also be defined separately."""
        path = f"$.agents.{agent}.knowledge"
        if folder.value is None or folder.value == "":
            return
        if not isinstance(folder.value, str):
            self._note(folder.problem(path, "is the path of one folder"))
            return
        self._places.setdefault("knowledge", place)
        items = self._items.setdefault("knowledge", {})
        item = items.get(agent, Item(place, Node(None, place)))
        fields = {} if item.node.value is None else item.node.value
        if not isinstance(fields, dict):
            return
        own = fields.get("folder", folder)
        if own.value != folder.value:
            self._note(folder.problem(path, f"is another folder than that of '{agent}' in line {own.place.line}"))
        links = next((one for one in ("agents", "linked_agents") if one in fields), "agents")
        linked = fields.get(links, Node([], place))
        if linked.value is None or (isinstance(linked.value, list) and agent not in linked.plain()):
            linked = Node([*_list(linked), Node(agent, place)], linked.place)
        keys = {"folder": place, links: place, **item.node.keys}
        items[agent] = Item(item.place, Node({**fields, "folder": own, links: linked}, item.node.place, keys))

    def _byok(self, node: Node, path: str) -> None:
        """`enabled` and `allowed_providers` as a setting for each provider."""
        given = node.value if isinstance(node.value, dict) else {}
        for key in given.keys() - {"enabled", "allowed_providers"}:
            message = f"is none of enabled, allowed_providers{did_you_mean(key, ('enabled', 'allowed_providers'))}"
            self._note(Problem(f"{path}.{key[:100]}", message, *node.keys[key]))
        enabled = given.get("enabled", Node(True, node.place))
        allowed = list(_list(given.get("allowed_providers")))
        if not isinstance(enabled.value, bool):
            self._note(enabled.problem(f"{path}.enabled", "is true or false"))
        elif enabled.value and not allowed:
            message = "allows no providers: name them in allowed_providers; it was left out"
            self._warn(node.problem(path, message))
        for one in allowed:
            key = f"byok.{one.value}"
            self._places.setdefault("settings", one.place)
            self._items.setdefault("settings", {}).setdefault(key, Item(one.place, Node(enabled.value, one.place)))


def _list(node: Node | None) -> list[Node]:
    return node.value if node is not None and isinstance(node.value, list) else []


def _narrowed(item: Item, agent: str) -> Item:
    """A server defined inside an agent; its `tools` become that agent's tools."""
    tools = item.node.value.get("tools")
    node = item.node.without("tools")
    if tools is not None:
        node.value["agent_tools"] = Node({agent: tools}, tools.place, {agent: tools.place})
        node.keys = {**node.keys, "agent_tools": tools.place}
    return Item(item.place, node)


def _parted(node: Node) -> tuple[Any, Node | None]:
    """Splits an item into the values common to all agents and those of each agent."""
    if not isinstance(node.value, dict):
        return node.plain(), None
    return node.without("agent_tools").plain(), node.value.get("agent_tools")


@hookimpl
def register_config_dialects(register: Register[ConfigDialect]) -> None:
    register(OldDialects())
