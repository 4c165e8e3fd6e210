"""With a lock the plugin folder holds exactly what was locked, or the engine does not start."""

import os
import py_compile
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bytebrew import plugin_folder, plugin_lock
from bytebrew.base.errors import SettingsError
from tests.commands import environment, install, run
from tests.test_plugin_folder import TOOL, lay

RAN = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A locked folder with a plugin and a file of no distribution."""
    folder = tmp_path / "plugins"
    install(folder, "pond", TOOL)
    lock(folder)
    return folder


def lock(folder: Path) -> str:
    done = run("plugins", "lock", settings={"BYTEBREW_PLUGINS_DIR": str(folder)})
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def append(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def listed(folder: Path) -> "tuple[int, str]":
    done = run("plugins", settings={"BYTEBREW_PLUGINS_DIR": str(folder)})
    return done.returncode, done.stderr


def test_the_lock_names_each_distribution_with_version_and_hash(tmp_path: Path) -> None:
    install(tmp_path / "plugins", "pond", TOOL)
    shown = lock(tmp_path / "plugins")
    [locked] = (plugin_lock.read(tmp_path / "plugins") or plugin_lock.Lock()).distribution
    assert (locked.name, locked.version, len(locked.sha256)) == ("some-pond", "1.0", 64)
    assert shown.splitlines() == [
        f"some-pond 1.0 {locked.sha256}",
        f"{tmp_path}/plugins/plugins.lock names 1 distribution",
        "warning: pond_plugin.py is of no distribution; it is locked as it is",
    ]


def test_a_folder_as_it_was_locked_is_loaded_again_and_again(folder: Path) -> None:
    for _ in range(2):
        assert listed(folder) == (0, "")
    assert not (folder / "__pycache__").exists()


def test_doctor_names_what_is_locked(folder: Path, tmp_path: Path) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(folder), "BYTEBREW_DATA_DIR": str(tmp_path / "data"), "BYTEBREW_PORT": "0"}
    done = run("doctor", settings=settings)
    assert f"ok  plugins.lock: {folder} holds what is locked: some-pond 1.0\n" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda at: append(at / "pond_plugin.py"), "pond_plugin.py was changed"),
        (lambda at: (at / "pond_plugin.py").unlink(), "pond_plugin.py is missing"),
        (lambda at: (at / "more.py").write_text(RAN), "more.py is not locked"),
        (lambda at: (at / "sub").mkdir() or (at / "sub" / "a.py").write_text(RAN), "sub/a.py is not locked"),
        (lambda at: (at / "b.pyc").write_bytes(b""), "b.pyc is not locked"),
        (lambda at: (at / "link").symlink_to(at / "some_pond-1.0.dist-info"), "link is not locked"),
        (lambda at: os.link(at / "pond_plugin.py", at / "twin.py"), "twin.py is not locked"),
        (lambda at: lay(at, "mud"), "mud 1.0 is not locked"),
        (lambda at: append(at / "some_pond-1.0.dist-info" / "entry_points.txt"), "some-pond 1.0 was changed"),
        (lambda at: (at / "some_pond-1.0.dist-info").rename(at / "x-1.dist-info"), "some-pond 1.0 was changed"),
        (
            lambda at: (at / "some_pond-1.0.dist-info" / "METADATA").write_text("Name: some-pond\nVersion: 1.1\n"),
            "some-pond is 1.1 and not 1.0",
        ),
        (lambda at: (at / "some_pond-1.0.dist-info" / "METADATA").unlink(), "some-pond 1.0 is missing"),
        (lambda at: (at / "plugins.lock").write_text("version = 2\n"), "which a newer bytebrew wrote"),
        (lambda at: (at / "plugins.lock").write_text("version = "), "plugins.lock is no lock of plugins"),
        (lambda at: (at / "plugins.lock").write_text("versions = 1"), "is no lock of plugins"),
        (lambda at: (at / "some_pond-1.0.dist-info" / "RECORD").write_bytes(b"\xff,\xff\n"), "RECORD cannot be read"),
        (lambda at: (at / "some_pond-1.0.dist-info" / "RECORD").write_text("a" * 200_000), "RECORD cannot be read"),
        (lambda at: (at / ".committed").mkdir(), "broke off; run bytebrew plugins lock"),
    ],
)
def test_anything_else_in_the_folder_stops_the_boot_before_its_code_runs(
    change: Callable[[Path], object], message: str, folder: Path
) -> None:
    change(folder)
    source = folder / "pond_plugin.py"
    if source.exists() and "pond_plugin.py" not in message:
        stamp = source.stat()
        os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    code, error = listed(folder)
    assert code == 2
    assert error.startswith("bytebrew: BYTEBREW_PLUGINS_DIR: ")
    assert message in error
    assert not [*folder.rglob("ran")]


def test_what_stops_the_boot_of_every_command_is_read_before_the_code(folder: Path, tmp_path: Path) -> None:
    (folder / "pond_plugin.py").write_text(RAN + TOOL)
    settings = {"BYTEBREW_PLUGINS_DIR": str(folder), "BYTEBREW_DATA_DIR": str(tmp_path / "data")}
    for command in ("plugins", "doctor", "serve"):
        assert run(command, settings=settings).returncode == 2
    assert not (folder / "ran").exists()
    assert "pond_plugin" in lock(folder)
    assert listed(folder) == (0, "")
    assert (folder / "ran").exists()


@pytest.mark.parametrize("where", [".", "plugins"])
def test_bytecode_in_a_cache_is_not_what_runs(where: str, folder: Path, tmp_path: Path) -> None:
    """A .pyc with the time and the size of its source would be imported in its place."""
    source = folder / "pond_plugin.py"
    stamp, size = source.stat(), len(source.read_bytes())
    evil = tmp_path / "evil.py"
    evil.write_text((RAN + "#" * size)[:size])
    os.utime(evil, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    cache = folder / "__pycache__" / f"pond_plugin.{sys.implementation.cache_tag}.pyc"
    cache.parent.mkdir()
    py_compile.compile(str(evil), cfile=str(cache), dfile=str(source))
    # `python -m` has the working directory in sys.path, and so imports from the folder without the setting
    settings = {"BYTEBREW_PLUGINS_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "bytebrew", "plugins"]
    done = subprocess.run(
        command, cwd=tmp_path / where, env=environment(settings), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_changes_after_the_check_is_not_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks])
    monkeypatch.delitem(sys.modules, "pond_plugin", raising=False)  # of another test's folder
    [found] = plugin_folder.enter(folder)
    (folder / "pond_plugin.py").write_text(RAN + TOOL)
    with pytest.raises(ImportError, match=r"pond_plugin.py was changed after its check against plugins.lock"):
        next(iter(found.entry_points)).load()
    assert not (folder / "ran").exists()


def test_a_folder_without_a_lock_is_as_it_was(tmp_path: Path) -> None:
    install(tmp_path / "plugins", "pond", TOOL)
    plugin_lock.verify(tmp_path / "plugins", plugin_folder.check(tmp_path / "plugins"))
    assert listed(tmp_path / "plugins") == (0, "")


def test_a_pipe_in_the_folder_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(SettingsError, match="pipe is neither a file nor a folder"):
        plugin_lock.verify(folder, plugin_folder.check(folder))
