"""Makes the plugins of a source folder, a wheel or a plugin folder importable, for `bytebrew plugins test`."""

import ast
import tomllib
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import click

from bytebrew.cli.plugins import wheels
from bytebrew.plugins import GROUP


class Tested(NamedTuple):
    """What is tested: its plugins' modules by name, the folders to import from, and the folder of its own tests."""

    plugins: Mapping[str, str]
    paths: tuple[Path, ...]
    tests: Path | None

    def files(self) -> Iterator[Path]:
        """The sources of the plugins' modules."""
        for top in sorted({module.partition(".")[0] for module in self.plugins.values()}):
            for path in self.paths:
                yield from sorted([*path.glob(f"{top}.py"), *(path / top).rglob("*.py")])


def prepared(path: Path, scratch: Path) -> Tested:
    """The plugins at the path; `scratch` takes what must be written. ClickException says what is wrong."""
    if path.is_file():
        wheel = wheels.read(path)
        for name, content in wheel.files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
        return _installed(scratch, path)
    if (path / "pyproject.toml").is_file():
        return _source(path.resolve(), scratch)
    return _installed(path.resolve(), path)


def _installed(folder: Path, path: Path) -> Tested:
    points = [point for one in distributions(path=[str(folder)]) for point in one.entry_points.select(group=GROUP)]
    if not points:
        message = f"it has neither a pyproject.toml nor a distribution with an entry point in the group '{GROUP}'"
        raise click.ClickException(f"{path}: {message}; bytebrew plugins new makes a plugin")
    return Tested({point.name: point.module for point in points}, (folder,), None)


def _source(folder: Path, scratch: Path) -> Tested:
    """A source folder is tested as it lies: its metadata is written, as a build would."""
    file = folder / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: {error}") from error
    points = project.get("entry-points", {}).get(GROUP)
    if not project.get("name") or not points:
        groups = ", ".join(project.get("entry-points", {})) or "none"
        message = f'write the module under [project.entry-points.{GROUP}], as name = "module"'
        raise click.ClickException(f"{file}: it names no plugin (its groups of entry points: {groups}); {message}")
    roots = [root for root in (folder, folder / "src") if root.is_dir()]
    modules = {name: value.partition(":")[0].strip() for name, value in points.items()}
    for name, module in modules.items():
        parts = Path(*module.split("."))
        places = [root / end for root in roots for end in (parts.with_suffix(".py"), parts / "__init__.py")]
        if not any(place.is_file() for place in places):
            shown = " or ".join(str(place.relative_to(folder)) for place in places[:2])
            raise click.ClickException(f"{file}: plugin {name} is the module {module}, and there is no {shown}")
    _write_metadata(project, points, scratch)
    return Tested(modules, (scratch, *roots), folder)


def _write_metadata(project: Mapping[str, Any], points: Mapping[str, str], scratch: Path) -> None:
    version = project.get("version", "0")
    own = scratch / f"{project['name'].replace('-', '_')}-{version}.dist-info"
    own.mkdir()
    requires = "".join(f"Requires-Dist: {one}\n" for one in project.get("dependencies", ()))
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n{requires}"
    (own / "METADATA").write_text(metadata, encoding="utf-8")
    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser[GROUP] = dict(points)
    with (own / "entry_points.txt").open("w", encoding="utf-8") as file:
        parser.write(file)


def wrong_imports(tested: Tested) -> Iterator[str]:
    """Each import of what is no contract: a module below `bytebrew`, or another plugin."""
    own = {module.partition(".")[0] for module in tested.plugins.values()}
    for path in tested.files():
        try:
            nodes = [*ast.walk(ast.parse(path.read_bytes()))]
        except (SyntaxError, ValueError) as error:
            yield f"{path.name} is no Python: {error}"
            continue
        for node in nodes:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                where, top = f"{path.name}:{node.lineno}", name.partition(".")[0]
                if name.startswith("bytebrew."):
                    yield f"{where} imports {name}, which changes without notice; import bytebrew only"
                elif top.startswith("bytebrew_") and top not in own:
                    yield f"{where} imports the plugin {top}; use the engine that hooks receive"
