"""Completes wheels with what they need: the engine's own distributions first, then a folder of wheels or pip."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from bytebrew.cli.plugins import wheels
from bytebrew.cli.plugins.wheels import Wheel
from bytebrew.requirements import Requirement, Version, normalized

Wanted = Mapping[str, Sequence[Requirement]]
"""Requirements by normalized name."""
Fetch = Callable[[Wanted], list[Wheel]]


class Present(NamedTuple):
    """A distribution that is there already."""

    name: str
    version: str
    requires: tuple[str, ...]


def of_engine() -> dict[str, Present]:
    """The distributions of the engine's environment by normalized name; they win over those of the plugin folder."""
    found: dict[str, Present] = {}
    for one in importlib.metadata.distributions():
        described = Present(one.metadata["Name"], one.version, tuple(one.requires or ()))
        found.setdefault(normalized(described.name), described)
    return found


def complete(
    named: Sequence[Wheel], engine: Mapping[str, Present], folder: Mapping[str, Present], fetch: Fetch
) -> list[Wheel]:
    """The wheels and all that they need beside the engine and the folder; ClickException names what cannot be met."""
    chosen = {normalized(wheel.name): wheel for wheel in named}
    while True:
        there: dict[str, Present | Wheel] = {**folder, **chosen, **engine}
        missing: dict[str, list[Requirement]] = defaultdict(list)
        problems = []
        for owner, wanted in _requirements(chosen, there, folder):
            other = there.get(normalized(wanted.name))
            if wanted.specifiers.startswith("@") and other is None:
                problems.append(f"{owner} needs {wanted.name} from an address: name its wheel as well")
            elif other is None:
                missing[normalized(wanted.name)].append(wanted)
            elif not _fits(owner, wanted, other.version):
                place = "the engine has" if normalized(other.name) in engine else "there is"
                problems.append(f"{owner} needs {wanted}, and {place} {other.name} {other.version}")
        if problems:
            raise click.ClickException("\n".join(["nothing was installed", *dict.fromkeys(problems)]))
        if not missing:
            return [*chosen.values()]
        for wheel in fetch(missing):
            chosen[normalized(wheel.name)] = wheel
            missing.pop(normalized(wheel.name), None)
        if missing:
            raise click.ClickException(f"nothing was installed: {_listed(missing)} could not be fetched")


def _requirements(
    chosen: Mapping[str, Wheel], there: Mapping[str, Present | Wheel], folder: Mapping[str, Present]
) -> Iterator[tuple[str, Requirement]]:
    """What the chosen wheels require, with the extras that they ask for, and what the folder requires of them."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in chosen]
    done = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for wanted in _parsed(there[name].name, there[name].requires, extras):
            yield f"{there[name].name} {there[name].version}", wanted
            if wanted.extras and normalized(wanted.name) in there:
                waiting.append((normalized(wanted.name), wanted.extras))
    for name, present in folder.items():
        if name not in chosen:
            for wanted in _parsed(present.name, present.requires, ()):
                if normalized(wanted.name) in chosen:
                    yield f"{present.name} {present.version}", wanted


def _parsed(owner: str, requires: Iterable[str], extras: tuple[str, ...]) -> Iterator[Requirement]:
    for text in requires:
        try:
            wanted = Requirement.of(text)
            wanted.fits("0")
            if wanted.applies(extras):
                yield wanted
        except (ValueError, RecursionError) as error:
            raise click.ClickException(f"{owner} needs '{text}', which cannot be checked: {error}") from error


def _fits(owner: str, wanted: Requirement, version: str) -> bool:
    try:
        return wanted.fits(version)
    except ValueError as error:
        raise click.ClickException(f"{owner} needs {wanted}, which cannot be checked: {error}") from error


def from_folder(folder: Path) -> Fetch:
    """Takes wheels out of a folder, the newest version that fits, and nothing from an index."""

    def fetch(missing: Wanted) -> list[Wheel]:
        candidates = [(path, match) for path in sorted(folder.glob("*.whl")) if (match := wheels.named(path))]
        found = []
        for name, wanted in missing.items():
            fits = [
                (Version.of(match["version"]), path)
                for path, match in candidates
                if normalized(match["name"]) == name and all(one.fits(match["version"]) for one in wanted)
            ]
            if not fits:
                raise click.ClickException(f"nothing was installed: {folder} has no wheel of {_listed({name: wanted})}")
            found.append(wheels.read(max(fits)[1]))
        return found

    return fetch


def from_index(missing: Wanted) -> list[Wheel]:
    """Downloads wheels, and no sources, whose build would run code; pip chooses, of the environment or through uv."""
    command = _pip()
    if not command:
        message = f"nothing was installed: it needs {_listed(missing)}, and there is no pip or uv to fetch that with"
        cure = (
            "download the wheels elsewhere (pip download --only-binary=:all:), and name their folder with --find-links"
        )
        raise click.ClickException(f"{message}; {cure}")
    with tempfile.TemporaryDirectory() as folder:
        options = ("--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--dest", folder)
        specifiers = [f"{one.name}{one.specifiers}" for wanted in missing.values() for one in wanted]
        done = subprocess.run(
            [*command, "download", *options, *specifiers], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise click.ClickException(
                f"nothing was installed: pip does not find {_listed(missing)}\n{done.stderr.strip()}"
            )
        return [wheels.read(path) for path in sorted(Path(folder).iterdir())]


def _pip() -> list[str]:
    """The command that runs pip for this interpreter, isolated from the working directory; empty if there is none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    return []


def _listed(missing: Wanted) -> str:
    return ", ".join(" and ".join(dict.fromkeys(map(str, wanted))) for wanted in missing.values())
