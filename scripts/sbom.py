"""Prints a bill of materials with the libraries that the page ships added: `sbom.py ENVIRONMENT.json`.

They are files within the wheel, so that no tool which reads an installation's metadata knows of them.
"""

import base64
import json
import sys
from pathlib import Path

PINS = Path(__file__).parent.parent / "plugins" / "bytebrew_page" / "static" / "vendor" / "pins.json"


def main() -> None:
    """Adds a component of the engine for each pinned library."""
    bill = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    engine = bill["metadata"]["component"]["bom-ref"]
    [needs] = [one for one in bill["dependencies"] if one["ref"] == engine]
    for name, pin in json.loads(PINS.read_text(encoding="utf-8")).items():
        purl = f"pkg:npm/{name.replace('@', '%40')}@{pin['version']}"
        digest = base64.b64decode(pin["integrity"].removeprefix("sha512-")).hex()
        bill["components"].append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": pin["version"],
                "description": pin["why"],
                "purl": purl,
                "hashes": [{"alg": "SHA-512", "content": digest}],
            }
        )
        bill["dependencies"].append({"ref": purl})
        needs.setdefault("dependsOn", []).append(purl)
    json.dump(bill, sys.stdout, indent=2, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
