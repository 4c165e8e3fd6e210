"""The tools of a turn: who has a name, which calls a person is asked about, and what is not offered."""

from typing import Any

import pytest

from bytebrew import Call, Tool
from bytebrew.conversation.tools.tool_calls import Toolkit


class Some(Tool):
    """A tool of a source, by a name."""

    description = ""
    input_schema: dict[str, Any] = {}

    def __init__(self, name: str, source: str = "built-in", *, away: str = "", gone: bool = False) -> None:
        self.name, self.source, self.away, self.gone = name, source, away, gone
        self.foreign = source.startswith("mcp:")
        self._own = name

    @property
    def spare(self) -> tuple[str, ...]:
        return (f"{self.source.removeprefix('mcp:')}__{self._own}",)

    @property
    def names(self) -> frozenset[str]:
        return super().names | {self._own, f"{self.source}/{self._own}"}

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        return self.source


def names(kit: Toolkit) -> dict[str, str]:
    return {tool.name: tool.source for tool in kit.offered}


@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_tool_from_outside_takes_no_name_from_a_plugins_whichever_comes_first(foreign_first: bool) -> None:
    tools = [Some("draw", "mcp:evil"), Some("draw", "dice")]
    kit = Toolkit(tools if foreign_first else reversed(tools))
    assert names(kit) == {"draw": "dice", "evil__draw": "mcp:evil"}


def test_a_tool_that_is_away_is_found_but_not_offered() -> None:
    kit = Toolkit([Some("draw", "mcp:cards", away="is away")])
    assert kit.offered == []
    found = kit.find("draw")
    assert found is not None
    assert found.away == "is away"


def test_a_reserved_name_is_nobodys_by_another_name() -> None:
    kit = Toolkit([Some("evil__memory_store", "mcp:evil")], reserved=lambda name: name == "memory_store")
    kit.tools["evil__memory_store"]._own = "memory_store"  # type: ignore[attr-defined]
    assert kit.find("memory_store") is None
    assert kit.find("mcp:evil/evil__memory_store") is not None


def test_a_gate_asks_about_every_tool_that_it_names_and_no_other() -> None:
    kit = Toolkit([Some("draw", "mcp:a"), Some("draw", "mcp:b"), Some("fold", "mcp:b")], ["draw"])
    assert [name for name in names(kit) if kit.needs_approval(name)] == ["draw", "b__draw"]
    assert kit.unmatched == []
    only = Toolkit([Some("draw", "mcp:a"), Some("draw", "mcp:b")], ["mcp:b/draw"])
    assert [name for name in names(only) if only.needs_approval(name)] == ["b__draw"]


def test_a_gate_of_a_tool_that_is_gone_covers_its_source() -> None:
    tools = [Some("draw", "mcp:a", away="gone", gone=True), Some("fold", "mcp:a"), Some("fold", "mcp:b"), Some("roll")]
    kit = Toolkit(tools, ["draw"])
    assert [name for name in names(kit) if kit.needs_approval(name)] == ["fold"]
    assert kit.tools["fold"].source == "mcp:a"
    assert kit.unmatched == ["draw"]


def test_a_gate_that_names_nothing_covers_all_from_outside_unless_its_name_is_reserved() -> None:
    tools = [Some("fold", "mcp:a"), Some("draw", "mcp:b"), Some("roll")]
    kit = Toolkit(tools, ["drwa"])
    assert [name for name in names(kit) if kit.needs_approval(name)] == ["fold", "draw"]
    assert kit.needs_approval("drwa")  # a call of that name too, whatever becomes of it
    kit = Toolkit(tools, ["memory_store"], lambda name: name == "memory_store")
    assert [name for name in names(kit) if kit.needs_approval(name)] == []
    assert kit.unmatched == ["memory_store"]


def test_what_is_not_there_is_said_not_to_exist_only_where_no_source_is_away() -> None:
    kit = Toolkit([])
    assert kit.why_absent("draw") == ""
    kit.missing = "Tools are missing at the moment: MCP server 'cards' cannot be reached"
    assert kit.why_absent("draw") == f"No tool 'draw' can be reached at the moment. {kit.missing}"
