"""`bytebrew replay`: compares a candidate with recorded sessions, for a person or for CI."""

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from bytebrew.base.errors import BootError, SettingsError
from bytebrew.base.progress import Progress
from bytebrew.cli import remote_engine
from bytebrew.cli.setup import Setup, counted

PAUSE = 0.5
"""Seconds between two looks at the report."""
MISUSED, DIVERGED = 2, 1
_SIGNS = {"same": "=", "different_arguments": "~", "missing": "-", "extra": "+"}


@click.command("replay")
@click.argument("sessions", nargs=-1, required=True)
@click.option("--agent", required=True, help="Agent that answers.")
@click.option("--model", help="Model in place of the agent's own.")
@click.option("--prompt", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with its prompt.")
@click.option("--min-similarity", type=click.FloatRange(0, 1), default=1.0, help="Least likeness of answers; 1: equal.")
@click.option("--max-cost-increase", type=click.FloatRange(0), help="Percent that all turns may cost more.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--url", help="Base URL of the running engine; by default at BYTEBREW_HOST and BYTEBREW_PORT.")
@click.pass_obj
def replay(
    setup: Setup,
    sessions: tuple[str, ...],
    agent: str,
    model: str | None,
    prompt: Path | None,
    min_similarity: float,
    max_cost_increase: float | None,
    as_json: bool,
    url: str | None,
) -> None:
    """Replay SESSIONS with a candidate, and report where it diverges.

    Recorded results stand in for tools, and no session changes. Exits with 0 if nothing diverges beyond the tolerances,
    1 if something does, 2 if the replay could not run. The token of the engine is read from BYTEBREW_TOKEN.
    """
    core = setup.core()
    base = url or f"http://{core.host}:{core.port}"
    body = {"sessions": sessions, "agent": agent, "min_similarity": min_similarity}
    body |= {"model": model} if model else {}
    body |= {"system": prompt.read_text(encoding="utf-8")} if prompt else {}
    body |= {} if max_cost_increase is None else {"max_cost_increase": max_cost_increase}
    try:
        report = _finished(base, core.token, body)
    except BootError as error:
        raise SettingsError(str(error)) from error  # exits with 2: 1 says that something diverges
    click.echo(msgspec.json.format(msgspec.json.encode(report)).decode() if as_json else _table(report))
    sys.exit(0 if report["passed"] else DIVERGED)


def _finished(url: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
    report: dict[str, Any] = remote_engine.ask(url, token, "POST", "replays", body)
    with Progress(f"replaying {counted(report['turns'], 'turns')}", unit="turns") as progress:
        while report["status"] == "running":
            time.sleep(PAUSE)
            report = remote_engine.ask(url, token, "GET", f"replays/{report['id']}")
            progress.of(report["done"], report["turns"])
    return report


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'session':36}  {'turn':>4}  {'calls':12}  {'answer':>6}  verdict"]
    numbers: dict[str, int] = {}
    for one in report["reports"]:
        numbers[one["session_id"]] = number = numbers.get(one["session_id"], 0) + 1
        calls = "".join(_SIGNS[call["verdict"]] for call in one["calls"]) or "none"
        verdict = "diverges" if one["diverges"] else "same"
        lines.append(f"{one['session_id']:36}  {number:>4}  {calls:12}  {one['similarity']:>6.2f}  {verdict}")
        if one["diverges"]:
            lines += [f"    {line}" for line in _differences(one)]
    totals = report["totals"]
    increase = "" if totals["cost_increase"] is None else f" ({totals['cost_increase']:+.1f} %)"
    lines += [
        "",
        f"{counted(totals['diverging'], 'turns')} of {report['done']} diverge"
        if totals["diverging"] != 1
        else f"1 turn of {report['done']} diverges",
        f"tokens  {totals['recorded_tokens']} -> {totals['candidate_tokens']}",
        f"cost    {_dollars(totals['recorded_cost_usd'])} -> {_dollars(totals['candidate_cost_usd'])}{increase}",
        f"seconds {totals['recorded_seconds']} -> {totals['candidate_seconds']}",
    ]
    return "\n".join(lines)


def _differences(turn: dict[str, Any]) -> list[str]:
    found = [f"message: {_short(turn['message'])}"]
    for call in turn["calls"]:
        if call["verdict"] != "same":
            arguments = [
                msgspec.json.encode(call[side]).decode() for side in ("recorded", "candidate") if call[side] is not None
            ]
            found.append(f"{_SIGNS[call['verdict']]} {call['tool']} {_short(' -> '.join(arguments))}")
    if turn["order_changed"]:
        found.append("the calls come in another order")
    if turn["candidate_error"]:
        found.append(f"error: {turn['candidate_error']}")
    elif not turn["complete"]:
        found.append("no result of its call is recorded, so its answer is not compared")
    elif not turn["same_answer"]:
        found += [f"recorded:  {_short(turn['recorded_answer'])}", f"candidate: {_short(turn['candidate_answer'])}"]
    return found


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:99]}…"


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.6f}"
