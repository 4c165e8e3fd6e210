"""packaging/requirements.lock fits pyproject.toml: all that it needs, in versions that it allows, and nothing else."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "packaging" / "requirements.lock").read_text(encoding="utf-8")
EXTRAS = ("issuers", "knowledge", "postgres", "s3", "timezones", "traces", "vectors")
MEND = "run scripts/lock.sh"


def blocks() -> list[str]:
    """The lock's text of each distribution: its pin, its hashes and what needs it."""
    return re.findall(r"^\S+==.*(?:\n .*)*", LOCK, re.MULTILINE)


def pins() -> dict[str, str]:
    """The version of each distribution."""
    return dict(re.findall(r"^(\S+?)==(\S+)", LOCK, re.MULTILINE))


def wanted() -> list[Requirement]:
    """The requirements of a full installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    return [Requirement(text) for text in texts]


def test_the_lock_has_each_requirement_in_a_version_that_fits() -> None:
    pinned = {canonicalize_name(name): version for name, version in pins().items()}
    unfit = [
        str(requirement)
        for requirement in wanted()
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert not unfit, f"the lock does not fit {', '.join(unfit)}: {MEND}"


def test_each_pin_has_hashes_and_something_that_needs_it() -> None:
    direct = {canonicalize_name(requirement.name) for requirement in wanted()}
    locked = set(pins())
    for block in blocks():
        name = block.partition("==")[0]
        needed_by = set(re.findall(r"^    # +(?:via )?(\S+)", block, re.MULTILINE)) - {"via"}
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
        if "bytebrew" in needed_by:
            assert canonicalize_name(name) in direct, f"nothing needs {name}: {MEND}"
        assert needed_by and needed_by <= locked | {"bytebrew"}, f"nothing needs {name}: {MEND}"
    assert len(blocks()) == len(locked) > 30
