"""`python -m scripts.docs_site FOLDER`: writes the sources of the site into a folder."""

import sys
from pathlib import Path

from scripts.docs_site import api, commands, stage

if __name__ == "__main__":
    stage.write(Path(sys.argv[1]), {**api.pages(), **commands.pages()})
