"""The folder of more plugins: nobody else may write to it, and what lies there in vain is named."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from bytebrew.base.errors import BootError, SettingsError
from bytebrew.engine import Engine
from tests.commands import install, run

TOOL = '''
from bytebrew import hookimpl, tool

@tool
async def swim() -> str:
    """Swims."""
    return "splash"

@hookimpl
def register_tools(register):
    register(swim)
'''


@pytest.fixture(autouse=True)
def imports_end_with_the_test() -> Iterator[None]:
    """A plugin folder stays on this process's path for one test only."""
    before = [*sys.path]
    yield
    sys.path[:] = before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one plugin, below a folder of its own."""
    install(tmp_path / "outer" / "more", "pond", TOOL)
    return tmp_path / "outer" / "more"


def build(folder: Path, data: Path) -> Engine:
    return Engine({"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_PLUGINS_DIR": str(folder)})


def require(folder: Path, *requirements: str, name: str = "some_pond") -> None:
    """Has a distribution of the folder require others."""
    metadata = folder / f"{name}-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "".join(f"Requires-Dist: {one}\n" for one in requirements))


def lay(folder: Path, name: str, entry_points: str = "") -> None:
    """A distribution that is no plugin."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if entry_points:
        (metadata / "entry_points.txt").write_text(entry_points)


@pytest.mark.parametrize("which", [".", "pond_plugin.py", "some_pond-1.0.dist-info", ".."])
def test_a_folder_that_every_user_may_write_to_stops_the_boot(which: str, folder: Path, tmp_path: Path) -> None:
    path = (folder / which).resolve()
    path.chmod(path.stat().st_mode | 0o002)
    words = rf"BYTEBREW_PLUGINS_DIR: {path} may be changed by every user \(7\d[2367]|6\d[26]\).*; run chmod "
    with pytest.raises(SettingsError, match=words):
        build(folder, tmp_path / "data")
    for command in ("plugins", "doctor", "serve"):
        done = run(command, settings={"BYTEBREW_PLUGINS_DIR": str(folder), "BYTEBREW_DATA_DIR": str(tmp_path / "data")})
        assert done.returncode == 2
        assert f"{path} may be changed by every user" in done.stderr
    assert "pond_plugin" not in sys.modules


def test_a_link_is_followed_to_what_every_user_may_write_to(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "deep.py").write_text("")
    (elsewhere / "back").symlink_to(folder)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "nowhere").symlink_to(tmp_path / "nothing")
    assert build(folder, tmp_path / "data")
    (elsewhere / "deep.py").chmod(0o666)
    with pytest.raises(SettingsError, match=r"deep\.py may be changed by every user"):
        build(folder, tmp_path / "data")


@pytest.mark.parametrize("which", ["the folder", "what is in it"])
def test_a_link_that_leads_through_a_folder_that_every_user_may_write_to_stops_the_boot(
    which: str, folder: Path, tmp_path: Path
) -> None:
    """Whoever may rename there puts another folder in the place of what is linked, or of the link itself."""
    shared = tmp_path / "shared"
    shared.mkdir()
    if which == "the folder":
        (shared / "plugins").symlink_to(folder)
        folder = shared / "plugins"
    else:
        (shared / "package").mkdir()
        (folder / "package").symlink_to(shared / "package")
    assert build(folder, tmp_path / "data")
    shared.chmod(0o777)
    with pytest.raises(
        SettingsError, match=rf"{shared} may be changed by every user \(777\).*; run chmod o-w {shared}"
    ):
        build(folder, tmp_path / "data")


@pytest.mark.parametrize("which", ["the folder", "what is in it"])
def test_a_link_to_a_link_in_a_folder_that_every_user_may_write_to_stops_the_boot(
    which: str, folder: Path, tmp_path: Path
) -> None:
    shared, package = tmp_path / "shared", tmp_path / "package"
    shared.mkdir()
    package.mkdir()
    (shared / "hop").symlink_to(folder if which == "the folder" else package)
    first = tmp_path / "first" if which == "the folder" else folder / "package"
    first.symlink_to("shared/hop" if which == "the folder" else shared / "hop")
    folder = first if which == "the folder" else folder
    assert build(folder, tmp_path / "data")
    shared.chmod(0o777)
    with pytest.raises(SettingsError, match=rf"{shared} may be changed by every user \(777\)"):
        build(folder, tmp_path / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("which", ["a folder above", "a link on the way"])
def test_what_another_user_has_in_a_folder_in_which_owners_may_rename_stops_the_boot(
    which: str, folder: Path, tmp_path: Path
) -> None:
    """In a folder such as /tmp that user may put another folder in the place of the one that was looked at."""
    theirs = folder.parent
    if which == "a link on the way":
        theirs = tmp_path / "link"
        theirs.symlink_to(folder)
        folder = theirs
    os.chown(theirs, 54321, -1, follow_symlinks=False)
    assert build(folder, tmp_path / "data")
    tmp_path.chmod(0o1777)
    with pytest.raises(SettingsError, match=rf"{theirs} belongs to 54321, .*; run chown -h root {theirs}"):
        build(folder, tmp_path / "data")


def test_a_parent_that_only_owners_may_rename_in_is_fine(folder: Path, tmp_path: Path) -> None:
    folder.parent.chmod(0o1777)
    folder.chmod(0o775)
    assert build(folder, tmp_path / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("which", [".", "pond_plugin.py"])
def test_what_belongs_to_another_user_stops_the_boot(which: str, folder: Path, tmp_path: Path) -> None:
    path = (folder / which).resolve()
    os.chown(path, 54321, -1)
    words = rf"{path} belongs to 54321, who could change what the engine runs; run chown -R root {folder}"
    with pytest.raises(SettingsError, match=words):
        build(folder, tmp_path / "data")


def test_a_distribution_without_entry_points_is_told_unless_a_plugin_requires_it(folder: Path, tmp_path: Path) -> None:
    lay(folder, "reeds")
    lay(folder, "Deep_Mud")
    lay(folder, "stone", "[console_scripts]\nstone = stone:main\n[bytebrew.plugins]\nstone = stone\n")
    require(folder, "deep-mud>=1")
    [reeds, stone] = sorted(build(folder, tmp_path / "data").plugins.warnings)
    assert reeds.startswith(f"reeds 1.0 in {folder} has no entry point in the group 'bytebrew' (its groups: none)")
    assert "stone 1.0 in" in stone
    assert "(its groups: bytebrew.plugins, console_scripts)" in stone


def test_a_module_that_lies_in_the_folder_by_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    assert build(tmp_path / "more", tmp_path / "data").plugins.warnings == []
    (tmp_path / "more" / "pond.py").write_text(TOOL)
    [words] = build(tmp_path / "more", tmp_path / "data").plugins.warnings
    assert words.startswith(f"no distribution is in {tmp_path / 'more'}, and a module alone is no plugin")


WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"
HERE = sysconfig.get_platform().replace("-", "_").replace(".", "_")
OWN = f"cp3{sys.version_info.minor}"


@pytest.mark.parametrize(
    "tag",
    [
        "cp39-cp39-any",
        "cp399-abi3-any",
        f"{OWN}-{OWN}-win_amd64",
        f"{OWN}-{OWN}-manylinux_2_17_s390x",
        "pp311-none-any",
    ],
)
def test_what_was_built_for_another_python_or_machine_stops_the_boot_before_it_is_imported(
    tag: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "some_pond-1.0.dist-info" / "WHEEL").write_text(f"{WHEEL}Tag: {tag}\n")
    (folder / "pond_plugin.py").write_text("raise SystemExit('imported')")
    words = f"BYTEBREW_PLUGINS_DIR: some-pond 1.0 in {folder} cannot run here: it is for {tag}, and this is CPython 3"
    with pytest.raises(SettingsError, match=words):
        build(folder, tmp_path / "data")
    done = run("doctor", settings={"BYTEBREW_PLUGINS_DIR": str(folder), "BYTEBREW_DATA_DIR": str(tmp_path / "data")})
    assert done.returncode == 2
    assert done.stderr.startswith(f"bytebrew: {words}")


@pytest.mark.parametrize(
    "tags",
    [["py3-none-any"], ["cp39-cp39-any", f"{OWN}-{OWN}-{HERE}"], ["cp38-abi3-any"], ["py2-none-any", "py3-none-any"]],
)
def test_what_was_built_for_this_python_is_taken(tags: list[str], folder: Path, tmp_path: Path) -> None:
    lines = "".join(f"Tag: {tag}\n" for tag in tags)
    (folder / "some_pond-1.0.dist-info" / "WHEEL").write_text(f"{WHEEL}{lines}")
    assert build(folder, tmp_path / "data")


def test_what_needs_a_newer_python_stops_the_boot(folder: Path, tmp_path: Path) -> None:
    metadata = folder / "some_pond-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Python: >=3.99\n")
    with pytest.raises(SettingsError, match=r"some-pond 1\.0 .* it needs Python >=3\.99, and this is 3"):
        build(folder, tmp_path / "data")


@pytest.mark.parametrize("metadata", [None, "", "Name: mud\n"])
def test_half_a_distribution_stops_the_boot(metadata: str | None, folder: Path, tmp_path: Path) -> None:
    lay(folder, "mud", "[bytebrew]\nmud = mud\n")
    (file := folder / "mud-1.0.dist-info" / "METADATA").unlink()
    if metadata is not None:
        file.write_text(metadata)
    with pytest.raises(SettingsError, match=r"its entry points: mud\) has no name or no version; delete it"):
        build(folder, tmp_path / "data")


def test_an_unmet_requirement_is_told(folder: Path, tmp_path: Path) -> None:
    require(folder, "httpx<0.1", "httpx>0.1", "nowhere-to-be-found>=2; python_version>='3'", "other; extra == 'x'")
    first, second = build(folder, tmp_path / "data").plugins.warnings
    assert first.startswith("plugin pond (of some-pond 1.0) needs httpx<0.1, and httpx is 0.")
    assert second == "plugin pond (of some-pond 1.0) needs nowhere-to-be-found>=2, which is not installed"
    settings = {"BYTEBREW_PLUGINS_DIR": str(folder), "BYTEBREW_DATA_DIR": str(tmp_path / "data")}
    listed = run("plugins", settings=settings)
    assert (listed.returncode, listed.stderr) == (0, f"warning: {first}\nwarning: {second}\n")
    examined = run("doctor", settings={**settings, "BYTEBREW_PORT": "0"})
    assert examined.returncode == 1
    assert f"BAD plugins: {first}\nBAD plugins: {second}\n" in examined.stdout


def test_a_plugin_that_fails_for_what_it_lacks_says_both(folder: Path, tmp_path: Path) -> None:
    require(folder, "nowhere-to-be-found>=2")
    (folder / "pond_plugin.py").write_text("import nowhere_to_be_found\n")
    words = "No module named 'nowhere_to_be_found'.*; it needs nowhere-to-be-found>=2, which is not installed"
    sys.modules.pop("pond_plugin", None)
    with pytest.raises(BootError, match=words):
        build(folder, tmp_path / "data")


def test_a_tool_without_a_docstring_is_told_with_file_and_line(folder: Path, tmp_path: Path) -> None:
    (folder / "pond_plugin.py").write_text(TOOL.replace('    """Swims."""\n', ""))
    settings = {"BYTEBREW_PLUGINS_DIR": str(folder), "BYTEBREW_DATA_DIR": str(tmp_path / "data")}
    words = "plugin pond (of some-pond 1.0) has the tool 'swim' without a docstring, so no model knows what it does"
    listed = run("plugins", settings=settings)
    assert (listed.returncode, listed.stderr) == (0, f"warning: {words} (pond_plugin.py:4)\n")
    examined = run("doctor", settings={**settings, "BYTEBREW_PORT": "0"})
    assert f"BAD plugins: {words} (pond_plugin.py:4)\n" in examined.stdout


async def test_what_is_told_is_in_the_log_of_an_engine_that_starts(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require(folder, "nowhere-to-be-found>=2")
    async with build(folder, tmp_path / "data"):
        pass
    [record] = [record for record in caplog.records if "nowhere-to-be-found" in record.getMessage()]
    assert record.levelname == "WARNING"
