"""Packs the folder of the executable: `pack.py FOLDER LAUNCHER FILE` writes FILE and FILE.tar.gz.

The same files give the same bytes: names are sorted, and times and owners are left out.
"""

import gzip
import stat
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


def main(folder: Path, launcher: Path, file: Path) -> None:
    """Writes both forms."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    write_one_file(folder, paths, launcher, file)
    write_archive(folder, paths, file.with_name(f"{file.name}.tar.gz"))


def write_one_file(folder: Path, paths: list[Path], launcher: Path, target: Path) -> None:
    """Writes the launcher with the folder appended to it, which it unpacks at each start."""
    target.write_bytes(launcher.read_bytes())
    with ZipFile(target, "a", ZIP_DEFLATED, compresslevel=9) as archive:
        for path in paths:
            entry = ZipInfo(str(path.relative_to(folder)))
            entry.external_attr = path.stat().st_mode << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    target.chmod(0o755)


def write_archive(folder: Path, paths: list[Path], target: Path) -> None:
    """Writes the folder into a .tar.gz."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        folders = {above for path in paths for above in path.parents if above.is_relative_to(folder)}
        for path in sorted((*paths, *folders)):  # with folders, so that another umask does not shut users out
            entry = archive.gettarinfo(path, str(path.relative_to(folder.parent)))
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            entry.mode = stat.S_IMODE(entry.mode)
            archive.addfile(entry, None if entry.isdir() else BytesIO(path.read_bytes()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
