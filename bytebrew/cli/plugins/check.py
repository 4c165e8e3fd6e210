"""`bytebrew plugins test`: tries plugins in real engines, then runs their own tests."""

import asyncio
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from bytebrew.base.errors import BootError, SettingsError
from bytebrew.base.settings import Core, rows
from bytebrew.cli.plugins import sources
from bytebrew.cli.plugins.sources import Tested
from bytebrew.cli.setup import Setup
from bytebrew.plugins import Plugins

NO_TESTS = 5
"""pytest's exit code if it collected nothing."""


@click.command("test")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def test(setup: Setup, path: Path) -> None:
    """Test the plugins at PATH: a source folder with its pyproject.toml, a wheel, or a folder of plugins.

    The engine's checks run first, in engines with temporary data folders, then the source folder's tests, by pytest.
    BYTEBREW_* variables of the plugins hold; those of the engine do not.
    """
    with tempfile.TemporaryDirectory(prefix="bytebrew-plugin-") as scratch:
        tested = sources.prepared(path, Path(scratch))
        failed = 0
        for good, line in _lines(setup, tested):
            click.echo(f"{'ok ' if good else 'BAD'} {line}")
            failed += not good
        if failed:
            raise click.ClickException(f"{failed} of the engine's checks failed; the plugin's own tests were not run")
        _run_pytest(tested, setup.environment)


def _lines(setup: Setup, tested: Tested) -> Iterator[tuple[bool, str]]:
    """The outcome of each check."""
    from bytebrew.testing import PLUGIN_CHECKS, PluginSubject  # the kit takes a while to import

    logging.disable(logging.CRITICAL)  # the checks cause failures
    wrong = [*sources.wrong_imports(tested)]
    yield not wrong, f"imports: {'; '.join(wrong) or 'the contract only'}"
    sys.path[:0] = map(str, tested.paths)
    loaded = Plugins()
    try:
        loaded.load((), None)
    except (BootError, SettingsError) as error:
        yield False, f"loads: {error}"
        return
    for plugin in loaded.list_all():
        if plugin.name in tested.plugins:
            hooks = ", ".join(plugin.hooks)
            yield (
                True,
                f"loads: {plugin.name} of {plugin.distribution} {plugin.version}, contract {plugin.requires}: {hooks}",
            )
    for name, module in tested.plugins.items():
        subject = PluginSubject(name, module.partition(".")[0], _settings(setup))
        for check in PLUGIN_CHECKS:
            try:
                asyncio.run(check(subject))
                yield True, f"{name} {check}"
            except AssertionError as error:
                yield False, f"{name} {check}: {error}"


def _settings(setup: Setup) -> Mapping[str, str]:
    """The variables of plugins in the environment; a check runs with the engine's own defaults."""
    own = {row.variable for row in rows([Core])}
    return {
        name: value for name, value in setup.environment.items() if name.startswith("BYTEBREW_") and name not in own
    }


def _run_pytest(tested: Tested, environment: Mapping[str, str]) -> None:
    where = ""
    if not importlib.util.find_spec("pytest"):  # nor can it be added, in the executable
        where = " where bytebrew is installed by pip, after pip install pytest"
    if tested.tests is None:
        click.echo(f"The plugin's own tests are not in it: name its source folder to run them{where}")
        return
    if where:
        message = "the plugin's own tests were not run: they need pytest, which is not here"
        raise click.ClickException(f"{message}; run this{where}")
    path = os.pathsep.join([*map(str, tested.paths), *filter(None, [environment.get("PYTHONPATH")])])
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = subprocess.run(command, cwd=tested.tests, env={**environment, "PYTHONPATH": path}, check=False)
    if done.returncode == NO_TESTS:
        raise click.ClickException(f"{tested.tests} has no tests: write test_*.py with the kit bytebrew.testing")
    if done.returncode:
        raise click.ClickException("the plugin's own tests failed")
