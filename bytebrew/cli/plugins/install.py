"""`bytebrew plugins install`, `remove` and `lock`: change the plugin folder, and lock what is in it."""

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from importlib.machinery import PathFinder
from pathlib import Path

import click

from bytebrew import plugin_lock
from bytebrew.base import settings
from bytebrew.base.settings import Core
from bytebrew.cli.plugins import changes, dependencies, wheels
from bytebrew.cli.plugins.dependencies import Present
from bytebrew.cli.plugins.wheels import Wheel
from bytebrew.cli.setup import Setup, counted
from bytebrew.plugin_folder import VARIABLE
from bytebrew.plugins import CORE, GROUP, installed_names
from bytebrew.requirements import normalized, required
from bytebrew.version import unfit

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("install")
@click.argument("files", metavar="FILE.whl...", nargs=-1, required=True, type=_FILE)
@click.option("--find-links", type=_FOLDER, help="Folder of wheels for dependencies; no index is asked then.")
@click.pass_obj
def install(setup: Setup, files: tuple[Path, ...], find_links: Path | None) -> None:
    """Install wheels, and what they need beside the engine, into the folder that BYTEBREW_PLUGINS_DIR names.

    An older version is replaced as a whole. No code of a wheel runs. plugins.lock then names what is in the folder, and
    the engine starts with exactly that.
    """
    with changes.changing(_folder(setup), may_create=True) as folder:
        there = changes.files_of(folder)
        plugin_lock.verify(folder, there.values())
        present, engine = _present(there), dependencies.of_engine()
        fetch = dependencies.from_folder(find_links) if find_links else dependencies.from_index
        chosen = dependencies.complete(_read(files, engine), engine, present, fetch)
        replaced = {
            name: present[name] for name in map(normalized, (wheel.name for wheel in chosen)) if name in present
        }
        removed = {file for name in replaced for file in _files_of(there, name)}
        kept = {file: path for file, path in there.items() if file not in removed}
        _check_names(chosen, kept)
        _check_shadows(chosen, kept)
        new: dict[str, bytes] = {}
        for wheel in chosen:
            _check_modules(wheel)
            _check_contract(wheel)
            for file, content in wheel.files.items():
                if file in new or (file in there and file not in removed):
                    raise click.ClickException(f"{wheel.path.name}: {file} is in {folder} already, from elsewhere")
                new[file] = content
        changes.put(folder, new, removed)
        for wheel in chosen:
            _print(wheel, replaced.get(normalized(wheel.name)), [*map(str.lower, (file.name for file in files))])
        click.echo(f"{folder / plugin_lock.LOCK} names what the engine runs from its next start on")


@click.command("remove")
@click.argument("name")
@click.pass_obj
def remove(setup: Setup, name: str) -> None:
    """Remove the distribution NAME from the folder, unless another one there requires it."""
    with changes.changing(_folder(setup)) as folder:
        there = changes.files_of(folder)
        plugin_lock.verify(folder, there.values())
        present = _present(there)
        if (gone := present.pop(normalized(name), None)) is None:
            known = ", ".join(sorted(one.name for one in present.values())) or "none"
            raise click.ClickException(f"{folder} has no distribution {name}; it has {known}")
        for one in present.values():
            if normalized(name) in required(one.requires):
                raise click.ClickException(f"{one.name} {one.version} requires {gone.name}: remove that first")
        changes.put(folder, {}, _files_of(there, normalized(name)))
        click.echo(f"removed {gone.name} {gone.version}")
        click.echo(f"{folder / plugin_lock.LOCK} names what the engine runs from its next start on")


@click.command("lock")
@click.pass_obj
def lock(setup: Setup) -> None:
    """Write plugins.lock: the engine then starts with exactly the files that are in the folder now."""
    with changes.changing(_folder(setup)) as folder:
        changes.put(folder, {}, ())
        locked = plugin_lock.read(folder) or plugin_lock.Lock()
        for one in locked.distribution:
            click.echo(f"{one.name} {one.version} {one.sha256}")
        for file in locked.file:
            click.echo(f"warning: {file.path} is of no distribution; it is locked as it is", err=True)
        click.echo(f"{folder / plugin_lock.LOCK} names {counted(len(locked.distribution), 'distributions')}")


def _folder(setup: Setup) -> Path:
    folder = settings.read(setup.environment, [Core], whole=False).core.plugins_dir
    if folder is None:
        raise click.UsageError(f"{VARIABLE} names no folder: set it for this command and for the engine")
    return folder


def _read(files: Sequence[Path], engine: Mapping[str, Present]) -> list[Wheel]:
    """The wheels; those that the engine has are left out if they are no plugins."""
    chosen: dict[str, Wheel] = {}
    for wheel in map(wheels.read, files):
        name = normalized(wheel.name)
        if name in chosen:
            raise click.ClickException(
                f"{chosen[name].path.name} and {wheel.path.name} are both {wheel.name}: name one"
            )
        if own := engine.get(name):
            message = f"the engine's own environment has {own.name} {own.version}, which it uses"
            raise click.ClickException(f"{wheel.path.name}: {message}; change it there, with pip or uv")
        chosen[name] = wheel
    if not any(_points(wheel) for wheel in chosen.values()):
        message = f"no entry point in the group '{GROUP}', so it is no plugin"
        raise click.ClickException(f"{', '.join(wheel.path.name for wheel in chosen.values())}: {message}")
    return [*chosen.values()]


def _points(wheel: Wheel) -> dict[str, str]:
    """The plugins of a wheel: module, or module and object, by name."""
    try:
        return _parsed(wheel.entry_points)
    except ConfigError as error:
        raise click.ClickException(f"{wheel.path.name}: its entry points cannot be read: {error}") from error


def _parsed(entry_points: str) -> dict[str, str]:
    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(entry_points)
    return dict(parser[GROUP]) if GROUP in parser else {}


def _check_names(chosen: Sequence[Wheel], kept: Mapping[str, Path]) -> None:
    """Two plugins of one name would stop the boot."""
    owners = dict.fromkeys((CORE, *installed_names()), "the engine")
    for file, path in kept.items():
        if file.endswith(".dist-info/entry_points.txt"):
            owners |= dict.fromkeys(_parsed(path.read_text(encoding="utf-8")), file.partition("-")[0])
    for wheel in chosen:
        for name in _points(wheel):
            if other := owners.get(name):
                raise click.ClickException(f"{wheel.path.name}: its plugin {name} has the name of one of {other}")
            owners[name] = wheel.name


def _check_modules(wheel: Wheel) -> None:
    """A module of the engine's environment is imported in place of one with its name in the folder."""
    here = Path.cwd()  # `python -m bytebrew` imports from it, and the author of a plugin may be in its folder
    path = [entry for entry in sys.path if entry and Path(entry) != here]
    for name, shared in wheels.modules(wheel):
        if name in sys.stdlib_module_names:
            raise click.ClickException(f"{wheel.path.name}: its module {name} has the name of one of Python's own")
        other = PathFinder.find_spec(name, path)
        if other and not (shared and other.origin is None):
            message = f"its module {name} has the name of one that the engine has, which would be used instead"
            raise click.ClickException(f"{wheel.path.name}: {message} ({other.origin})")


def _check_shadows(chosen: Sequence[Wheel], kept: Iterable[str]) -> None:
    """Of `acme.py` and `acme/__init__.py` Python imports one, and the other may be of another distribution."""
    owners = wheels.importable(kept)
    for wheel in chosen:
        own = wheels.importable(wheel.files)
        for name in sorted(own.keys() & owners.keys()):
            if own[name] != owners[name]:
                message = f"{own[name]} and {owners[name]} of another distribution are one module to Python"
                raise click.ClickException(f"{wheel.path.name}: {message}")
        owners |= own


def _check_contract(wheel: Wheel) -> None:
    """Reads `bytebrew_contract` of the plugins' modules, where it is a literal, without importing them."""
    for name, value in _points(wheel).items():
        path = value.partition(":")[0].strip().replace(".", "/")
        source = wheel.files.get(f"{path}/__init__.py", wheel.files.get(f"{path}.py"))  # as Python does
        if source is None:
            raise click.ClickException(f"{wheel.path.name}: plugin {name} is the module {value}, which it lacks")
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError) as error:
            raise click.ClickException(f"{wheel.path.name}: {path}.py is no Python: {error}") from error
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name(id="bytebrew_contract")], value=ast.Constant(value=number)):
                    if reason := unfit(number):
                        raise click.ClickException(f"{wheel.path.name}: plugin {name} does not fit: {reason}")


def _present(there: Mapping[str, Path]) -> dict[str, Present]:
    """The distributions of the folder by normalized name."""
    found = {}
    for file, path in there.items():
        if file.endswith(".dist-info/METADATA"):
            metadata = wheels.headers(path.read_bytes())
            requires = tuple(map(str, metadata.get_all("Requires-Dist") or ()))
            found[normalized(str(metadata["Name"]))] = Present(
                str(metadata["Name"]), str(metadata["Version"]), requires
            )
    return found


def _files_of(there: Mapping[str, Path], name: str) -> set[str]:
    """The files in the folder of every distribution with this normalized name."""
    found: set[str] = set()
    for file, path in there.items():
        if file.endswith(".dist-info/METADATA") and normalized(str(wheels.headers(path.read_bytes())["Name"])) == name:
            found |= plugin_lock.recorded(there, file).keys()
    return found


def _print(wheel: Wheel, before: Present | None, named: Sequence[str]) -> None:
    change = f" in place of {before.version}" if before else ""
    reason = "" if wheel.path.name.lower() in named else ", which is required"
    click.echo(f"installed {wheel}{change}{reason}")
    if wheel.omitted:
        click.echo(
            f"warning: {counted(len(wheel.omitted), 'files')} of {wheel.name} are left out, as scripts are", err=True
        )
