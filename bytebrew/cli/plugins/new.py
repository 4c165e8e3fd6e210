"""`bytebrew plugins new`: writes the distribution of a plugin, with tests that pass, from the skeleton of its kind."""

import keyword
import re
from importlib.resources import files
from pathlib import Path

import click

from bytebrew.plugins import CORE, installed_names
from bytebrew.version import CONTRACT

KINDS = {
    "provider": "Models of {} for ByteBrew.",
    "tool": "The tool {} for ByteBrew.",
    "auth": "The auth mode {} for ByteBrew.",
    "toolset": "The toolset {} for ByteBrew.",
    "face": "The protocol {} for ByteBrew.",
}
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
END = "README-end.md"


@click.command("new")
@click.argument("kind", type=click.Choice([*KINDS]))
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), help="Folder to write; ./bytebrew-NAME if it is left out.")
def new(kind: str, name: str, path: Path | None) -> None:
    """Write a new plugin: a distribution with tests that pass, and a README that says what to change."""
    name = name.removeprefix("bytebrew-").removeprefix("bytebrew_").replace("-", "_")
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise click.BadParameter("write a word such as acme, of a-z, 0-9 and _", param_hint="NAME")
    if name in (CORE, *installed_names()):
        raise click.BadParameter(f"there is a plugin {name} already; choose another name", param_hint="NAME")
    folder = path or Path(f"bytebrew-{name.replace('_', '-')}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(f"{folder} is there already, and nothing in it was changed; choose another --path")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in distribution(kind, name).items():
        (folder / file).write_text(text, encoding="utf-8")
        click.echo(folder / file)
    click.echo(f"\nRead {folder / 'README.md'}, and run: bytebrew plugins test {folder}")


def distribution(kind: str, name: str) -> dict[str, str]:
    """The files of a new distribution: the skeletons have the name acme in each of its spellings."""
    skeletons = files("bytebrew.cli.plugins") / "skeletons"
    found = {
        file.name.removesuffix(".txt"): file.read_text(encoding="utf-8")
        for folder in ("common", kind)
        for file in sorted((skeletons / folder).iterdir(), key=lambda path: path.name)
    }
    found["README.md"] += found.pop(END)
    camel = "".join(part.capitalize() for part in name.split("_"))
    spellings = {
        "DESCRIPTION": KINDS[kind].format(camel),
        "= CONTRACT": f"= {CONTRACT}",
        "bytebrew-acme": f"bytebrew-{name.replace('_', '-')}",
        "Acme": camel,
        "ACME": name.upper(),
        "acme": name,
    }
    return {_spelled(file, spellings): _spelled(text, spellings) for file, text in found.items()}


def _spelled(text: str, spellings: dict[str, str]) -> str:
    for spelling, replacement in spellings.items():
        text = text.replace(spelling, replacement)
    return text
