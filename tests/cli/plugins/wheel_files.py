"""Wheels as a build backend makes them, or an attacker."""

import csv
import io
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile, ZipInfo

TOOL = '''
from bytebrew import hookimpl, tool

@tool
async def {name}_swim() -> str:
    """Swims."""
    return "splash"

@hookimpl
def register_tools(register):
    register({name}_swim)
'''


def wheel(
    folder: Path,
    name: str = "heron",
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    headers: str = "",
    tags: str = "py3-none-any",
    plugin: bool = True,
    unrecorded: Mapping[str, str] | None = None,
) -> Path:
    """A wheel of the distribution `bytebrew-<name>`, with one module."""
    folder.mkdir(exist_ok=True, parents=True)
    distribution = f"bytebrew_{name}" if plugin else name
    own = f"{distribution}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {one}\n" for one in requires)
    metadata = f"Metadata-Version: 2.1\nName: {distribution.replace('_', '-')}\nVersion: {version}\n{lines}{headers}"
    contents = {
        f"{distribution}.py": TOOL.format(name=name) if plugin else "",
        f"{own}/METADATA": metadata,
        f"{own}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(files or {}),
    }
    if plugin:
        contents.setdefault(f"{own}/entry_points.txt", f"[bytebrew]\n{name} = {distribution}\n")
    record = io.StringIO()
    for file, text in contents.items():
        digest = urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")
        csv.writer(record).writerow((file, f"sha256={digest}", len(text.encode())))
    csv.writer(record).writerow((f"{own}/RECORD", "", ""))
    path = folder / f"{distribution}-{version}-{tags}.whl"
    with ZipFile(path, "w") as archive:
        for file, text in (contents | {f"{own}/RECORD": record.getvalue()} | dict(unrecorded or {})).items():
            archive.writestr(ZipInfo(file), text)
    return path
