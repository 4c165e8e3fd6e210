"""Writes the libraries that the page ships, as npm publishes them: `make vendored` runs it.

Each package is pinned by version and digest; its licence stands beside its files.
"""

import base64
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "plugins" / "bytebrew_page" / "static" / "vendor"
PINS = FOLDER / "pins.json"
"""For each package its version, its digest as npm has it, why it is here, and the files taken, with their SHA-256."""
REGISTRY = "https://registry.npmjs.org"


def fetched(name: str, version: str, integrity: str) -> dict[str, bytes]:
    """The files of a package; SystemExit if it is not the pinned one."""
    url = f"{REGISTRY}/{name}/-/{name}-{version}.tgz"
    with urllib.request.urlopen(url, timeout=60) as answer:
        packed = answer.read()
    found = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if found != integrity:
        sys.exit(f"{url} is {found}, the pin is {integrity}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        members = [one for one in files.getmembers() if one.isfile()]
        read = {one.name.partition("/")[2]: files.extractfile(one) for one in members}
        return {path: file.read() for path, file in read.items() if file is not None}


def main() -> None:
    """Fetches every package, and writes what is taken from it."""
    for name, pin in json.loads(PINS.read_text()).items():
        files = fetched(name, pin["version"], pin["integrity"])
        for path in pin["files"]:
            target = FOLDER / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[path])


if __name__ == "__main__":
    main()
