"""Tool calls: the tools of a turn, approvals, and the run of a call until its result is recorded."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import anyio
import msgspec
from msgspec.structs import replace

from bytebrew.base.errors import ToolError
from bytebrew.base.rolling_timeout import uncancelled
from bytebrew.base.settings import Core
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import ToolFinished, ToolStarted
from bytebrew.contract.hookspecs import Propagator
from bytebrew.contract.messages import Message, ToolCall
from bytebrew.contract.tool import Call, Outcome, Result, Tool, Toolset
from bytebrew.conversation.tools import client_tools, outcomes
from bytebrew.conversation.tools.questions import Questions, digest
from bytebrew.conversation.tools.read_result import ReadResult
from bytebrew.conversation.tools.running_call import RunningCall
from bytebrew.conversation.turn import Notify, Turn
from bytebrew.store import confirmations, turns
from bytebrew.store.confirmations import Confirmation, Kind
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal

log = logging.getLogger(__name__)

MOST_KEPT = 8 * 1024 * 1024
"""Limit in bytes of a tool's stored output."""


class Toolkit:
    """The tools of one turn by the names that the model uses.

    `gates` are names of tools whose calls a person must approve. A gate whose tool is gone from its source covers every
    tool of that source, because the tool may have another name now. A gate that matches no tool is `unmatched` and
    covers all foreign tools, unless the name is `reserved`. `missing` lists unreachable sources.
    """

    def __init__(
        self, tools: Iterable[Tool], gates: Sequence[str] = (), reserved: Callable[[str], bool] = lambda name: False
    ) -> None:
        self.tools: dict[str, Tool] = {}
        self.missing = ""
        self._reserved = reserved
        for tool in sorted(tools, key=lambda tool: tool.foreign):  # a foreign tool cannot take the name of an own one
            if tool.foreign and tool.name in self.tools:
                free = (name for name in tool.spare if name not in self.tools and not reserved(name))
                tool.name = next(free, tool.name)
            self.tools.setdefault(tool.name, tool)
        self._gated = {tool.name for tool in self.tools.values() if tool.confirm}
        known = [(tool, tool.names) for tool in self.tools.values()] if gates else []
        self.unmatched = [
            gate for gate in gates if not self._apply_gate(gate, [tool for tool, names in known if gate in names])
        ]
        self._gates = frozenset(gates)

    @property
    def offered(self) -> list[Tool]:
        """The tools that the model may call."""
        return [tool for tool in self.tools.values() if not tool.away]

    def find(self, name: str) -> Tool | None:
        """The tool with this name, or with this name within its source if no other source has it."""
        if (tool := self.tools.get(name)) is not None or self._reserved(name):
            return tool
        known = [tool for tool in self.tools.values() if tool.foreign and name in tool.names]
        if len({tool.source for tool in known}) > 1:  # prevents a source from capturing calls meant for another
            return None
        return next((tool for tool in known if not tool.away), next(iter(known), None))

    def needs_approval(self, name: str) -> bool:
        """Whether a person must approve a call of this name."""
        tool = self.find(name)
        return name in self._gates or (tool is not None and tool.name in self._gated)

    def why_absent(self, name: str) -> str:
        """The result of a call of an unknown tool, if an unreachable source may have it."""
        return f"No tool '{name}' can be reached at the moment. {self.missing}" if self.missing else ""

    def _apply_gate(self, gate: str, named: Sequence[Tool]) -> bool:
        """Marks the tools that a gate covers; `named` are those with its name.

        Returns whether the gate matches a tool.
        """
        sources = {tool.source for tool in named if tool.gone}
        if not named and not self._reserved(gate):
            sources = {tool.source for tool in self.tools.values() if tool.foreign}
        self._gated |= {tool.name for tool in named}
        self._gated |= {tool.name for tool in self.tools.values() if tool.source in sources}
        return bool(named) and not sources


class ToolSources(NamedTuple):
    """The sources of agents' tools; `reserves` tells whether a name is reserved for the engine and plugins.

    `propagator` names the span of a call to the systems that a tool calls.
    """

    tools: Mapping[str, Tool]
    toolsets: Sequence[Toolset]
    read_result: ReadResult
    reserves: Callable[[str], bool]
    propagator: Propagator | None = None


class ToolCalls:
    """Runs the tool calls of turns."""

    def __init__(
        self,
        db: Database,
        journal: Journal,
        questions: Questions,
        sources: ToolSources,
        core: Core,
        notify: Notify,
    ) -> None:
        self._db = db
        self._journal = journal
        self._questions = questions
        self._sources = sources
        self._notify = notify
        self._seconds = core.tool_timeout
        self._most_bytes = core.tool_output_bytes
        self._unmatched: dict[str, list[str]] = {}  # by agent, to log a warning only once
        self.read_result = sources.read_result

    async def toolkit(self, turn: Turn) -> Toolkit:
        """The tools that the agent lists and those of its toolsets, once they are ready."""
        sources, agent = self._sources, turn.agent
        tools = [sources.tools[name] for name in agent.tools if name in sources.tools]
        lists = {
            "tools": len(tools) < len(agent.tools),
            "can_spawn": bool(agent.can_spawn),
            "capabilities": any(capability.enabled for capability in agent.capabilities),
            **agent.lists,
        }
        missing = []
        for toolset in sources.toolsets:
            if toolset.lists and not any(lists.get(name) for name in toolset.lists):  # not used by this agent
                continue
            async for notice in toolset.ready(agent):
                turn.append(notice)
                missing += [notice.message] if notice.code == "tools_missing" else []
            tools += await toolset.tools(agent)
        if turn.new.client_tools:
            tools += client_tools.declared(turn, tools)
        kit = Toolkit(tools, agent.confirm_before, sources.reserves)
        kit.missing = "\n".join(missing)
        if kit.unmatched:
            notice = outcomes.unmatched(kit.unmatched)
            turn.append(notice)
            if self._unmatched.get(agent.name) != kit.unmatched:
                log.warning("agent %s: %s", agent.name, notice.message)
        self._unmatched[agent.name] = kit.unmatched
        return kit

    async def run(
        self, turn: Turn, kit: Toolkit, calls: tuple[ToolCall, ...], states: Mapping[str, str] = MappingProxyType({})
    ) -> list[Message]:
        """The results of the calls, in order; `states` are of calls that started before a restart."""
        try:
            return await self._run_all(turn, kit, calls, states)
        finally:
            turn.wait_no_more()  # for questions that were announced before it failed or was cancelled

    async def _run_all(
        self, turn: Turn, kit: Toolkit, calls: tuple[ToolCall, ...], states: Mapping[str, str]
    ) -> list[Message]:
        results: dict[str, Message] = {}

        async def run(call: ToolCall, state: str | None) -> None:
            results[call.call_id] = await self._run(turn, kit, call, state)

        if turn.agent.tool_execution == "sequential" or len(calls) < 2:
            for call in calls:
                if call.call_id not in states:
                    await self._begin(turn, kit, [call])
                await run(call, states.get(call.call_id))
        else:
            await self._begin(turn, kit, [call for call in calls if call.call_id not in states])
            try:
                async with anyio.create_task_group() as group:
                    for call in calls:
                        group.start_soon(run, call, states.get(call.call_id))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the first has cancelled the others
        return [results[call.call_id] for call in calls]

    async def _begin(self, turn: Turn, kit: Toolkit, calls: list[ToolCall]) -> None:
        """Records calls before they run, with what a person or the client is asked about them."""
        questions: dict[str, Confirmation] = {}
        for call in calls:
            tool = self._find(turn, kit, call)
            kind: Kind | None = (
                "confirm" if kit.needs_approval(call.tool) else "client_tool" if _sent(tool, call) else None
            )
            if kind is not None:
                questions[call.call_id] = self._questions.confirmations.question(turn, call, kind, tool)
        for call in calls:
            turn.append(ToolStarted(tool=call.tool, input=call.input, call_id=call.call_id))
        for question in questions.values():
            turn.wait_for(question.id)  # before the event, so that who has it is shown that the turn waits
            self._questions.confirmations.announce(turn, question)
        await turn.record(self._request, turn, calls, questions)

    def _request(
        self,
        conn: Connection,
        unsaved: turns.Unsaved,
        turn: Turn,
        calls: list[ToolCall],
        questions: Mapping[str, Confirmation],
    ) -> None:
        turns.tools_requested(conn, unsaved, turn.id, turn.session_id, calls, questions)
        for question in questions.values():
            self._questions.notify(conn, turn, question)

    def _find(self, turn: Turn, kit: Toolkit, call: ToolCall) -> Tool | None:
        if turn.has_long_results and call.tool == self.read_result.name:
            return self.read_result
        return kit.find(call.tool)

    async def _run(self, turn: Turn, kit: Toolkit, call: ToolCall, state: str | None) -> Message:
        """Runs one call until its result is recorded; `state` is of a call that a restart interrupted.

        The use of an approval is recorded before the call runs: an approval is valid for one run.
        """
        tool = self._find(turn, kit, call)
        if turn.new.client_tools and state is not None:
            sent = await self._db.read(confirmations.of_call, turn.id, call.call_id, "client_tool")
            if sent is not None:
                return await self._wait_for_client(turn, call, sent)
        answer: Confirmation | None = None
        outcome: Outcome | None = None
        note = ""
        if state == "started":
            answer = await self._db.read(confirmations.of_call, turn.id, call.call_id, "confirm")
        elif state == "asked" or kit.needs_approval(call.tool):
            answer = await self._questions.answered(turn, call, "confirm", tool)
        earlier, resume_state = (
            await self._db.read(confirmations.not_taken, turn.id, call.call_id) if state else ([], "")
        )
        if earlier:
            turn.elicited.add(call.call_id)
        changed = answer is not None and answer.args_digest != digest(tool, call)
        if answer is not None and answer.edited is not None:
            call = replace(call, input=answer.edited, malformed=None)
            note = outcomes.changed(answer.edited)
        if state == "started":
            if tool is None or changed or not (tool.idempotent or resume_state):  # a changed call was not approved
                outcome, earlier = await self._questions.outcome(turn, call, tool), []
        elif answer is not None:
            if answer.verdict != "approve":
                outcome = outcomes.refused(answer)
            elif not await self._journal.write(turn.log, turns.tool_approved, turn.id, call, answer.id):
                outcome = outcomes.USED
        if outcome is None and _sent(tool, call):
            return await self._wait_for_client(
                turn, call, await self._questions.pending(turn, call, "client_tool", tool), note
            )
        if outcome is None:
            propagator = self._sources.propagator
            caller = Call(
                call_id=call.call_id,
                session_id=turn.session_id,
                turn_id=turn.id,
                schema=turn.new.schema,
                agent=turn.agent.name,
                subject=turn.subject,
                headers=turn.headers,
                traceparent=(propagator(turn, call.call_id) if propagator else turn.traceparent) or "",
                resume_state=resume_state,
            )
            outcome = await run_tool(
                tool,
                call,
                caller,
                seconds=self._seconds,
                limit=self._most_bytes,
                absent=kit.why_absent(call.tool) if tool is None else "",
                running=turn.running_calls,
                earlier=earlier,
            )
        return await self._record_result(turn, call, note + outcome.output, outcome)

    async def _record_result(self, turn: Turn, call: ToolCall, output: str, outcome: Outcome) -> Message:
        turn.has_long_results = turn.has_long_results or outcome.whole is not None
        result = Message(
            "tool",
            output,
            call_id=call.call_id,
            tool=call.tool,
            has_error=outcome.has_error,
            ends_turn=outcome.ends_turn,
            attachments=outcome.attachments,
        )
        for event in outcome.events:
            turn.append(event)
        if outcome.ends_turn:
            turn.closing_events = outcome.events
        turn.append(ToolFinished(tool=call.tool, output=output, call_id=call.call_id, has_error=outcome.has_error))
        work = _store_last if call.call_id in turn.elicited else turns.tool_finished
        await self._journal.write(turn.log, work, turn.id, turn.session_id, result, outcome.whole)
        await self._notify("tool_finished", turn=turn, call=call, result=outcome)
        return result

    async def _wait_for_client(self, turn: Turn, call: ToolCall, sent: Confirmation, note: str = "") -> Message:
        """Waits for the result of a call that the client runs, with the arguments that it was sent."""
        if sent.input != call.input:
            note, call = outcomes.changed(sent.input), replace(call, input=sent.input)
        answer = await self._questions.confirmations.answered(turn, sent)
        result = await self._db.read(confirmations.result, sent.id)
        failed = result is None or answer.verdict == "fail"
        outcome = capped(client_tools.LATE if result is None else result, failed, self._most_bytes, call.call_id)
        return await self._record_result(turn, call, note + outcome.output, outcome)


def _store_last(conn: Connection, turn_id: str, session_id: str, result: Message, whole: str | None) -> None:
    """Records the result of a call whose source has asked a person, and closes what is open of that."""
    turns.tool_finished(conn, turn_id, session_id, result, whole)
    confirmations.withdraw(conn, turn_id, result.call_id or "")


def _sent(tool: Tool | None, call: ToolCall) -> bool:
    """Whether the client runs the call; one with malformed arguments is not sent to it."""
    return (
        tool is not None
        and tool.source == "client"
        and isinstance(tool, client_tools.ClientTool)
        and not call.malformed
    )


async def run_tool(
    tool: Tool | None,
    call: ToolCall,
    caller: Call,
    *,
    seconds: float,
    limit: int,
    absent: str = "",
    running: dict[str, RunningCall] | None = None,
    earlier: Sequence[Confirmation] = (),
) -> Outcome:
    """Runs a tool; every failure is an outcome. `limit` is in bytes, `seconds` applies to tools without a timeout.

    `absent` is the result if there is no such tool. `running` has the call meanwhile, with the `earlier` questions of
    its source whose answers it has not taken.
    """
    if tool is None:
        return Outcome(absent or f"There is no tool named '{call.tool}'", True)
    if call.malformed is not None:
        return Outcome(f"The arguments are not a JSON object: {call.malformed[:200]}", True)
    if tool.timeout is not None:
        seconds = tool.timeout
    more: Result | None = None
    try:
        with uncancelled(), anyio.move_on_after(seconds) as scope:
            if running is not None:
                running[call.call_id] = RunningCall(tool=tool, name=call.tool, scope=scope, earlier=list(earlier))
            result = await tool.run(caller, call.input)
        if scope.cancelled_caught:
            return Outcome(f"'{call.tool}' did not finish within {seconds:g} s", True)
        if isinstance(result, Result):
            text, more = result.text, result
        else:
            text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
    except ToolError as error:
        return capped(str(error), True, limit, call.call_id)._replace(events=error.events)
    except Exception:
        log.exception("tool %s failed", call.tool)
        return Outcome(f"'{call.tool}' failed because of a fault of its own", True)
    finally:
        if running is not None and (ended := running.pop(call.call_id, None)) is not None and ended.requests:
            await ended.close()
    outcome = capped(text, False, limit, call.call_id)
    if more is None:
        return outcome
    return outcome._replace(attachments=more.attachments, events=more.events, ends_turn=more.ends_turn)


def capped(text: str, has_error: bool, limit: int, call_id: str) -> Outcome:
    """An outcome of at most `limit` bytes; `whole` is what the model reads on with `read_result`."""
    raw = text.encode("utf-8", "replace")  # a lone surrogate cannot be stored
    if len(raw) <= limit:
        return Outcome(raw.decode(), has_error)
    beginning = raw[:limit].decode("utf-8", "ignore")  # the limit may lie within a character
    whole = raw[:MOST_KEPT].decode("utf-8", "ignore")
    rest = f"[cut: {len(beginning)} of {len(whole)} characters; go on with read_result, call_id {call_id}]"
    return Outcome(f"{beginning}\n{rest}", has_error, whole)
