"""Wheels are unpacked into the plugin folder without running their code, all of them or none."""

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest
from click.testing import CliRunner, Result

from bytebrew import plugin_lock
from bytebrew.base.errors import SettingsError
from bytebrew.cli.plugins import dependencies
from bytebrew.cli.plugins import plugins as group
from bytebrew.cli.setup import Setup
from bytebrew.plugins import Plugins
from bytebrew.version import CONTRACT
from tests.cli.plugins.wheel_files import TOOL, wheel
from tests.commands import run

Command = Callable[..., Result]
DATA = "bytebrew_heron-1.0.data/purelib"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


@pytest.fixture
def bytebrew(folder: Path) -> Command:
    """Runs a subcommand of `bytebrew plugins` on the folder."""

    def command(*arguments: object) -> Result:
        setup = Setup({"BYTEBREW_PLUGINS_DIR": str(folder)}, Plugins())
        return CliRunner().invoke(group, [*map(str, arguments)], obj=setup)

    return command


def contents(folder: Path) -> dict[str, str]:
    """Every file of the folder but the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != plugin_lock.LOCK
    }


def listed(folder: Path) -> str:
    done = run("plugins", settings={"BYTEBREW_PLUGINS_DIR": str(folder)})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_wheel_is_installed_locked_and_loaded(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    done = bytebrew("install", wheel(tmp_path))
    assert done.output.splitlines() == [
        "installed bytebrew-heron 1.0",
        f"{folder}/plugins.lock names what the engine runs from its next start on",
    ]
    [locked] = (plugin_lock.read(folder) or plugin_lock.Lock()).distribution
    assert (locked.name, locked.version) == ("bytebrew-heron", "1.0")
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "bytebrew_heron.py")] == [0o755, 0o644]
    [line] = [line for line in listed(folder).splitlines() if line.startswith("heron ")]
    assert line.split() == ["heron", "1.0", "bytebrew-heron", "loaded", "contract>=2", "register_tools"]
    assert not list(folder.rglob("*.pyc"))


def test_an_upgrade_replaces_every_file_of_the_older_version(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    bytebrew("install", wheel(tmp_path, files={"bytebrew_heron_more/__init__.py": "", "bytebrew_heron_more/b.py": ""}))
    (folder / "bytebrew_heron_more" / "__pycache__").mkdir()
    (folder / "bytebrew_heron_more" / "__pycache__" / "b.cpython-311.pyc").write_bytes(b"")
    bytebrew("install", wheel(tmp_path, "stork"))
    done = bytebrew("install", wheel(tmp_path, version="2.0", files={"bytebrew_heron_new.py": "new = 1\n"}))
    assert "installed bytebrew-heron 2.0 in place of 1.0\n" in done.output
    assert {name.partition("/")[0] for name in contents(folder)} == {
        "bytebrew_heron-2.0.dist-info",
        "bytebrew_heron.py",
        "bytebrew_heron_new.py",
        "bytebrew_stork-1.0.dist-info",
        "bytebrew_stork.py",
    }
    assert {"heron", "stork"} <= {line.split()[0] for line in listed(folder).splitlines()}


def test_dependencies_come_from_the_engine_the_wheels_and_a_folder_of_wheels(
    bytebrew: Command, folder: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    for version in ("1.0", "1.5", "2.0"):
        wheel(links, "reeds", version, plugin=False, requires=["mud; extra == 'deep'"])
    wheel(links, "reeds", "1.9", plugin=False, tags="cp311-cp311-win_amd64")
    wheel(links, "mud", plugin=False)
    needs = ["httpx>=0.28", "reeds[deep]>=1,<2", "nowhere; python_version < '3'", "never; extra == 'test'"]
    done = bytebrew("install", wheel(tmp_path, requires=needs), "--find-links", links)
    assert done.output.splitlines()[:-1] == [
        "installed bytebrew-heron 1.0",
        "installed reeds 1.5, which is required",
        "installed mud 1.0, which is required",
    ]
    assert "httpx" not in " ".join(contents(folder))
    again = bytebrew("install", wheel(tmp_path, "stork", requires=["reeds>=2"]), "--find-links", links)
    assert "bytebrew-stork 1.0 needs reeds>=2, and there is reeds 1.5\n" in again.output
    older = bytebrew("install", wheel(tmp_path, "stork"), wheel(tmp_path, "reeds", "2.0", plugin=False))
    assert "bytebrew-heron 1.0 needs reeds>=1,<2, and there is reeds 2.0\n" in older.output
    assert (older.exit_code, again.exit_code) == (1, 1)
    assert not [name for name in contents(folder) if "stork" in name]


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        ("httpx<0.1", "bytebrew-heron 1.0 needs httpx<0.1, and the engine has httpx 0."),
        ("mud>=3", "links has no wheel of mud>=3"),
        ("mud @ https://mud.example/mud.whl", "bytebrew-heron 1.0 needs mud from an address: name its wheel as well"),
        ("mud >= one", "cannot be checked"),
    ],
)
def test_a_need_that_is_not_met_is_named_and_nothing_is_installed(
    requires: str, message: str, bytebrew: Command, folder: Path, tmp_path: Path
) -> None:
    wheel(tmp_path / "links", "mud", plugin=False)
    done = bytebrew("install", wheel(tmp_path, requires=[requires]), "--find-links", tmp_path / "links")
    assert done.exit_code == 1
    assert message in done.output
    assert not contents(folder)


def test_pip_fetches_what_is_missing_as_wheels_only(
    bytebrew: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "index", "reeds", plugin=False).parent))
    done = bytebrew("install", wheel(tmp_path, requires=["reeds>=1"]))
    assert "installed reeds 1.0, which is required\n" in done.output
    failed = bytebrew("install", wheel(tmp_path, "stork", requires=["mud>=1"]))
    assert failed.exit_code == 1
    assert "nothing was installed: pip does not find mud>=1\n" in failed.output


def test_a_program_without_pip_says_how_to_bring_what_is_missing(
    bytebrew: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = bytebrew("install", wheel(tmp_path, requires=["reeds>=1"]))
    assert done.exit_code == 1
    assert "it needs reeds>=1, and there is no pip or uv to fetch that with" in done.output
    assert "--find-links" in done.output


def test_uv_runs_pip_where_the_environment_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dependencies._pip() == []
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    assert dependencies._pip() == [f"{tmp_path}/uv", "tool", "run", "--quiet", "--python", sys.executable, "pip"]


def spoiled(tmp_path: Path, name: str, *, mode: int = 0, content: str = "") -> Path:
    path = wheel(tmp_path)
    entry = ZipInfo(name)
    entry.external_attr = mode << 16
    with ZipFile(path, "a") as archive:
        archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda at: spoiled(at, "../evil.py"), "it has a file '../evil.py', which would leave the folder"),
        (lambda at: spoiled(at, "/etc/evil"), "would leave the folder"),
        (lambda at: spoiled(at, "a\\..\\evil.py"), "would leave the folder"),
        (lambda at: spoiled(at, "link", mode=0o120777, content="/etc"), "it has a link, link"),
        (lambda at: spoiled(at, "Bytebrew_heron.py"), "it has bytebrew_heron.py twice"),
        (lambda at: wheel(at, files={"plugins.lock": ""}), "it has a file plugins.lock, which is the folder's own"),
        (lambda at: wheel(at, files={".committed/new/x.py": ""}), "which is the folder's own"),
        (lambda at: wheel(at, files={f"{DATA}/plugins.lock": ""}), "plugins.lock, which is the folder's own"),
        (
            lambda at: wheel(at, files={f"{DATA}/.committed/changes.json": ""}),
            "changes.json, which is the folder's own",
        ),
        (lambda at: wheel(at, files={f"{DATA}/.staged/x.py": ""}), "which is the folder's own"),
        (lambda at: wheel(at, files={f"{DATA}/bytebrew_heron.py": "x"}), "it has bytebrew_heron.py twice, once as"),
        (
            lambda at: wheel(at, files={f"{DATA}/evil-1.dist-info/METADATA": ""}),
            "is the metadata of another distribution",
        ),
        (
            lambda at: wheel(at, files={"evil-1.dist-info/entry_points.txt": ""}),
            "is the metadata of another distribution",
        ),
        (lambda at: wheel(at, files={"Evil.EGG-INFO/PKG-INFO": ""}), "is the metadata of another distribution"),
        (
            lambda at: wheel(at, files={"/".join("d" * 400): ""}),
            "it has a file with a path of more than 500 characters",
        ),
        (
            lambda at: wheel(at, files={"bytebrew_heron/__init__.py": f"bytebrew_contract = {CONTRACT + 1}\n"}),
            f"plugin heron does not fit: it needs contract {CONTRACT + 1}",
        ),
        (lambda at: wheel(at, "audit"), "its plugin audit has the name of one of the engine"),
        (lambda at: wheel(at, unrecorded={"more.py": ""}), "more.py is not listed in its RECORD"),
        (
            lambda at: wheel(at, unrecorded={"bytebrew_heron.py": "x"}),
            "bytebrew_heron.py differs from its hash in its RECORD",
        ),
        (lambda at: wheel(at).rename(at / "bytebrew_stork-1.0-py3-none-any.whl"), "its name is of bytebrew-heron"),
        (lambda at: wheel(at).rename(at / "bytebrew_heron-1.1-py3-none-any.whl"), "its version is 1.0"),
        (lambda at: wheel(at).rename(at / "heron.whl"), "its name is not that of a wheel"),
        (lambda at: wheel(at, tags="cp311-cp311-win_amd64"), "it is for cp311-cp311-win_amd64, and this is CPython"),
        (lambda at: wheel(at, tags="py2-none-any"), "it is for py2-none-any"),
        (lambda at: wheel(at, headers="Requires-Python: <3\n"), "it needs Python <3, and this is 3."),
        (lambda at: wheel(at, plugin=False), "no entry point in the group 'bytebrew', so it is no plugin"),
        (lambda at: wheel(at, files={"json/__init__.py": ""}), "its module json has the name of one of Python's own"),
        (
            lambda at: wheel(at, files={"httpx/__init__.py": ""}),
            "its module httpx has the name of one that the engine has",
        ),
        (
            lambda at: wheel(at, files={"bytebrew_heron.py": f"bytebrew_contract = {CONTRACT + 1}\n"}),
            f"plugin heron does not fit: it needs contract {CONTRACT + 1}",
        ),
        (lambda at: wheel(at, files={"bytebrew_heron.py": "def ("}), "bytebrew_heron.py is no Python"),
        (lambda at: wheel(at, "bytebrew", plugin=False), "the engine's own environment has bytebrew"),
    ],
)
def test_a_wheel_that_does_not_fit_is_refused_with_its_name_and_the_reason(
    made: Callable[[Path], Path], message: str, bytebrew: Command, folder: Path, tmp_path: Path
) -> None:
    path = made(tmp_path / "built")
    done = bytebrew("install", path)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert path.name in done.output
    assert message in done.output
    assert not contents(folder)


def test_a_folder_with_the_name_of_a_wheel_is_refused(bytebrew: Command, tmp_path: Path) -> None:
    (tmp_path / "links" / "one-1.0-py3-none-any.whl").mkdir(parents=True)
    done = bytebrew("install", "--find-links", tmp_path / "links", wheel(tmp_path, requires=["one"]))
    assert "one-1.0-py3-none-any.whl: it cannot be read: " in done.output


def test_what_is_no_zip_file_is_refused(bytebrew: Command, tmp_path: Path) -> None:
    path = wheel(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    assert "it cannot be read: " in bytebrew("install", path).output


def test_a_file_of_another_distribution_is_not_overwritten(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    bytebrew("install", wheel(tmp_path, files={"shared.py": "mine = 1\n"}))
    before = contents(folder)
    done = bytebrew("install", wheel(tmp_path, "stork", files={"shared.py": "theirs = 1\n"}))
    assert f"shared.py is in {folder} already, from elsewhere" in done.output
    assert contents(folder) == before


@pytest.mark.parametrize("file", ["bytebrew_heron/__init__.py", "bytebrew_heron.abi3.so"])
def test_a_module_of_another_distribution_is_not_replaced_by_one_that_python_prefers(
    file: str, bytebrew: Command, folder: Path, tmp_path: Path
) -> None:
    bytebrew("install", wheel(tmp_path, files={"nest/one.py": ""}))
    before = contents(folder)
    done = bytebrew("install", wheel(tmp_path, "stork", files={file: ""}))
    assert f"{file} and bytebrew_heron.py of another distribution are one module to Python" in done.output
    assert contents(folder) == before
    done = bytebrew("install", wheel(tmp_path, "stork", files={"nest/one/__init__.py": ""}))
    assert "nest/one/__init__.py and nest/one.py of another distribution" in done.output
    assert bytebrew("install", wheel(tmp_path, "stork", files={"nest/two.py": ""})).exit_code == 0


def test_a_name_is_a_file_or_a_folder(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    bytebrew("install", wheel(tmp_path, files={"nest": "a file\n", "eggs/one.py": ""}))
    before = contents(folder)
    for files in ({"nest/more.py": ""}, {"eggs": ""}):
        done = bytebrew("install", wheel(tmp_path, "stork", files=files))
        assert "would be a file and a folder, and nothing was changed" in done.output
    assert contents(folder) == before
    assert bytebrew("install", wheel(tmp_path, version="2.0", files={"nest/more.py": ""})).exit_code == 0
    assert (folder / "nest" / "more.py").exists()


def test_a_link_to_a_folder_is_named(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    bytebrew("install", wheel(tmp_path))
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "one.py").touch()
    (folder / "eggs").symlink_to(elsewhere)
    assert f"{folder / 'eggs'} is a link to a folder, and nothing was changed; replace it" in bytebrew("lock").output


def test_two_plugins_of_one_name_are_refused(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    bytebrew("install", wheel(tmp_path))
    points = {"bytebrew_stork-1.0.dist-info/entry_points.txt": "[bytebrew]\nheron = bytebrew_stork\n"}
    done = bytebrew("install", wheel(tmp_path, "stork", files=points))
    assert "its plugin heron has the name of one of bytebrew_heron" in done.output


def test_bytecode_and_scripts_are_left_out(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    files = {"__pycache__/bytebrew_heron.cpython-311.pyc": "", "bytebrew_heron-1.0.data/scripts/heron": "", "x.pyc": ""}
    files["Bytebrew-Heron-1.0.data/purelib/bytebrew_heron_more.py"] = ""  # installers look at the end of the name only
    files["bytebrew_heron-1.0.data/purelib"] = ""
    done = bytebrew("install", wheel(tmp_path, files=files))
    assert "warning: 4 files of bytebrew-heron are left out" in done.output
    assert {name.partition("/")[0] for name in contents(folder)} == {
        "bytebrew_heron-1.0.dist-info",
        "bytebrew_heron.py",
        "bytebrew_heron_more.py",
    }
    assert bytebrew("remove", "bytebrew-heron").exit_code == 0
    assert not contents(folder)


def test_a_distribution_is_removed_unless_another_requires_it(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    bytebrew("install", wheel(tmp_path, requires=["reeds"]), wheel(tmp_path, "reeds", plugin=False))
    assert "bytebrew-heron 1.0 requires reeds: remove that first" in bytebrew("remove", "Reeds").output
    assert "has no distribution stork; it has bytebrew-heron, reeds" in bytebrew("remove", "stork").output
    assert bytebrew("remove", "bytebrew_heron").output.startswith("removed bytebrew-heron 1.0\n")
    assert bytebrew("remove", "reeds").exit_code == 0
    assert [path.name for path in folder.iterdir()] == ["plugins.lock"]
    assert "heron" not in listed(folder)


def test_the_engines_own_distributions_are_left_to_its_environment(bytebrew: Command, tmp_path: Path) -> None:
    done = bytebrew("install", wheel(tmp_path, "httpx", "9.0", plugin=False))
    assert "the engine's own environment has httpx 0." in done.output


def test_without_a_folder_the_setting_is_named(tmp_path: Path) -> None:
    done = run("plugins", "install", str(wheel(tmp_path)))
    assert done.returncode == 2
    assert "BYTEBREW_PLUGINS_DIR names no folder: set it for this command and for the engine" in done.stderr


def test_only_install_makes_the_folder(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    for command in (("lock",), ("remove", "heron")):
        assert f"{folder} is no folder; fill it with bytebrew plugins install" in bytebrew(*command).output
    assert not folder.exists()


def test_two_commands_do_not_change_a_folder_at_once(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert f"another bytebrew changes {folder}" in bytebrew("install", wheel(tmp_path)).output
    os.close(other)
    assert bytebrew("install", wheel(tmp_path)).exit_code == 0


def stopping(patch: pytest.MonkeyPatch, step: int) -> None:
    """Has every operation on files fail but the first `step` ones."""
    before = iter(range(step))

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def operation(*arguments: object, **options: object) -> object:
            if next(before, None) is None:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return operation

    for name in ("write_bytes", "rename", "unlink", "replace", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))


def outcome(folder: Path, before: dict[str, str]) -> str:
    """What an engine that starts then runs."""
    try:
        plugin_lock.verify(folder, folder.rglob("*"))
    except SettingsError as error:
        assert "broke off; run bytebrew plugins lock, which completes it" in str(error)
        return "refused"
    return "old" if before.items() <= contents(folder).items() else "new"


@pytest.mark.timeout(120)
def test_a_crash_at_any_step_leaves_the_old_plugins_or_a_refusal_until_the_change_is_completed(
    bytebrew: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins"
    old, new = wheel(tmp_path / "old", files={"bytebrew_old.py": ""}), wheel(tmp_path / "new", version="2.0")
    engine, outcomes = dependencies.of_engine(), []
    monkeypatch.setattr(dependencies, "of_engine", lambda: engine)  # reading it takes most of an installation's time
    for step in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        bytebrew("install", old)
        before = contents(folder)
        with monkeypatch.context() as patch:
            stopping(patch, step)
            done = bytebrew("install", new)
        if done.exit_code == 0:
            break
        outcomes.append(outcome(folder, before))
        if outcomes[-1] == "refused":
            assert bytebrew("lock").exit_code == 0
            assert {"bytebrew_heron-2.0.dist-info/METADATA"} <= contents(folder).keys()
            assert "bytebrew_old.py" not in contents(folder)
        assert bytebrew("install", new).exit_code == 0
        assert [one.version for one in (plugin_lock.read(folder) or plugin_lock.Lock()).distribution] == ["2.0"]
        assert not [name for name in contents(folder) if name.startswith(".")]
    assert done.exit_code == 0
    assert [*dict.fromkeys(outcomes)] == ["old", "refused", "new"]


def test_a_full_disk_leaves_what_was_there(
    bytebrew: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytebrew("install", wheel(tmp_path))
    before = contents(folder)

    def full(path: Path, content: bytes) -> int:
        if path.name == "RECORD":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return len(content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        patch.setattr(Path, "chmod", lambda path, mode: None)
        assert isinstance(bytebrew("install", wheel(tmp_path, version="2.0")).exception, OSError)
    assert contents(folder) == before
    assert not (folder / ".staged").exists()
    assert "heron" in listed(folder)


def test_the_code_of_a_wheel_does_not_run(bytebrew: Command, folder: Path, tmp_path: Path) -> None:
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    files = {"bytebrew_heron.py": trap + TOOL.format(name="heron"), "evil.pth": trap, "sitecustomize.py": trap}
    done = run("plugins", "install", str(wheel(tmp_path, files=files)), settings={"BYTEBREW_PLUGINS_DIR": str(folder)})
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
