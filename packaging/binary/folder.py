"""Lays out the folder of the executable: `folder.py ROOT SITE`, with the packages to take in the folder SITE.

The folder is a whole Python that finds itself wherever it lies: the interpreter and the standard library that run this
script, the packages, and each shared library that they need, the C library and its loader too. What is left out no
server's plugin imports; readline and the dbm modules also bring libraries under the GPL.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode
from zipfile import ZipFile, ZipInfo

LEFT_OUT = {
    *(
        "__pycache__",
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idlelib",
        "turtledemo",
        "turtle.py",
        "tkinter",
    ),
    *("ensurepip", "lib2to3", "distutils", "venv", "pydoc_data", "antigravity.py", "this.py", "curses", "crypt.py"),
}
MODULES_LEFT_OUT = re.compile(
    r"(readline|_tkinter|_g?dbm|_curses.*|_crypt|nis|ossaudiodev|_?xx.*|_test.*|_ctypes_test)\."
)
NOT_RUN = ("*.pyi", "*.pyx", "*.pxd", "INSTALLER", "REQUESTED", "direct_url.json")
"""What packages hold for compilers, editors and installers; the last names a folder of the building machine."""
ALWAYS = (
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libresolv.so.2",
    "librt.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "libutil.so.1",
)
"""Libraries that a wheel of a plugin may take for granted (PEP 600), beside those that are needed anyway."""


def main(root: Path, site: Path) -> None:
    """Lays out the folder."""
    stdlib = root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(sysconfig.get_path("stdlib"), stdlib, ignore=left_out)
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    packages = root / packages_of(interpreter)
    shutil.copytree(site, packages, ignore=shutil.ignore_patterns("__pycache__", *NOT_RUN))
    (root / "bin").mkdir()
    shutil.copy(interpreter, root / "bin" / stdlib.name)
    shutil.copy(Path(__file__).with_name("start.py"), root / "lib")
    for library in sorted({*needed([interpreter, *elf(root)], root)}):
        shutil.copy(library, root / "lib" / library.name)
    for path in elf(root):
        path.chmod(path.stat().st_mode | 0o200)
        subprocess.run(["strip", "--strip-unneeded", path], check=True)
    compile_all(root, packages)
    archive(stdlib, packages / "tzdata")


def compile_all(root: Path, packages: Path) -> None:
    """Compiles every module; of those that are not ours the sources go.

    Fewer and smaller files are unpacked sooner. The names of their files in tracebacks begin with `<`, as those of
    frozen modules do: the files are not there, and the engine takes them for no plugin's.
    """
    unchecked = PycInvalidationMode.UNCHECKED_HASH  # the files never change
    for path in sorted(root.rglob("*.py")):
        ours = path.name == "start.py" or str(path).startswith(f"{packages}/bytebrew")
        compiled = compileall.compile_file(
            path,
            quiet=1,
            legacy=not ours,
            stripdir=str(root),
            prependdir=None if ours else "<python>",
            invalidation_mode=unchecked,
        )
        if not compiled:
            sys.exit(f"{path} cannot be compiled")
        if not ours:
            path.unlink()


def archive(stdlib: Path, zones: Path) -> None:
    """Moves the standard library and the time zones into the archive that Python looks into first, not compressed."""
    modules = {path for path in stdlib.rglob("*") if not path.is_relative_to(zones.parent) and path.suffix != ".so"}
    with ZipFile(stdlib.with_name(stdlib.name.replace(".", "") + ".zip"), "w") as target:
        for path in sorted(path for path in (*modules, *zones.rglob("*")) if path.is_file()):
            top = zones.parent if path.is_relative_to(zones) else stdlib
            target.writestr(ZipInfo(str(path.relative_to(top))), path.read_bytes())
            if path != stdlib / "os.pyc":  # by which Python finds its folder
                path.unlink()


def packages_of(interpreter: Path) -> str:
    """The folder, below its own, in which an interpreter looks for packages: another one in Debian's."""
    code = "import os, site, sys; print(os.path.relpath(site.getsitepackages()[0], sys.prefix), end='')"
    return subprocess.run([interpreter, "-I", "-c", code], check=True, capture_output=True, text=True).stdout


def left_out(folder: str, names: list[str]) -> list[str]:
    """The names within a folder of the standard library that stay out."""
    return [name for name in names if name in LEFT_OUT or name.startswith("config-") or MODULES_LEFT_OUT.match(name)]


def elf(root: Path) -> Iterator[Path]:
    """Every executable and shared library."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def needed(files: list[Path], root: Path) -> Iterator[Path]:
    """The shared libraries that these files need and that are not in the folder, with the loader."""
    environment = {**os.environ, "LC_ALL": "C"}
    listed = subprocess.run(["ldd", *files], check=True, capture_output=True, text=True, env=environment).stdout
    if missing := re.findall(r"(\S+) => not found", listed):
        sys.exit(f"not on this machine: {', '.join(sorted({*missing}))}")
    libc = Path()
    for name in re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", listed, re.MULTILINE):
        if not Path(name).is_relative_to(root):
            yield Path(name)
        if Path(name).name.startswith("libc.so"):
            libc = Path(name)
    yield from (libc.with_name(name) for name in ALWAYS if libc.with_name(name).exists())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
