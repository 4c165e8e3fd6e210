"""Whether a wheel was built for this Python and this machine, by the tags of its file name or metadata (PEP 425)."""

import platform
import re
import sys
import sysconfig
from collections.abc import Iterable


def unfit(tags: Iterable[str]) -> str:
    """Why none of the tags, such as `py3-none-any`, fits this process; empty if one does."""
    kept = [*tags]
    if any(_fits(*parts) for tag in kept if len(parts := tag.split("-")) == 3):
        return ""
    here = f"CPython {platform.python_version()} on {sysconfig.get_platform()}"
    return f"it is for {', '.join(kept)}, and this is {here}"


def _fits(pythons: str, abis: str, platforms: str) -> bool:
    """Whether one of the combinations fits; a name of a wheel has several of each, with a dot between."""
    minor = sys.version_info.minor
    for python in pythons.split("."):
        for abi in abis.split("."):
            # a wheel for an older CPython fits if it is pure or has the stable ABI (abi3)
            early = re.fullmatch(r"(py|cp)3(\d*)", python)
            fits = early and int(early[2] or 0) <= minor and (abi in ("none", "abi3") or python == abi == f"cp3{minor}")
            if fits and any(map(_on_this_machine, platforms.split("."))):
                return True
    return False


def _on_this_machine(tag: str) -> bool:
    own = re.sub(r"[-.]", "_", sysconfig.get_platform())
    if tag in ("any", own):
        return True
    library, version = platform.libc_ver()
    if library == "glibc" and (match := re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", _numbered(tag))):
        return own == f"linux_{match[3]}" and [int(match[1]), int(match[2])] <= [*map(int, version.split(".")[:2])]
    if library != "glibc" and (match := re.fullmatch(r"musllinux_\d+_\d+_(\w+)", tag)):
        return own == f"linux_{match[1]}"
    if match := re.fullmatch(r"macosx_(\d+)_\d+_(\w+)", tag):
        release, _, machine = platform.mac_ver()
        return bool(release) and match[2] in (machine, "universal2") and int(match[1]) <= int(release.split(".")[0])
    return False


def _numbered(tag: str) -> str:
    """A platform tag with the version of glibc in it (PEP 600)."""
    for old, new in (("manylinux1_", "2_5_"), ("manylinux2010_", "2_12_"), ("manylinux2014_", "2_17_")):
        if tag.startswith(old):
            return f"manylinux_{new}{tag.removeprefix(old)}"
    return tag
