"""Data from packages of Debian and Ubuntu, which are downloaded and unpacked without being installed or using root."""

import shutil
import subprocess
from pathlib import Path


def unpack(packages: list[str], directory: Path) -> None:
    """Download the packages and unpack their files into `directory`.

    Raises:
        SystemExit: apt-get or dpkg is missing, or a package can't be downloaded.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise SystemExit(
                f"{tool} was not found: this script fetches {', '.join(packages)} as packages of Debian or Ubuntu. "
                "Run it on such a system and copy the folder it writes."
            )
    download = subprocess.run(
        ["apt-get", "download", *packages], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if download.returncode != 0:
        raise SystemExit(
            f"apt-get could not download {', '.join(packages)}:\n{download.stdout}\n"
            "If it does not know them, its lists are missing or old: run `apt-get update` as root once."
        )
    for archive in sorted(directory.glob("*.deb")):
        subprocess.run(["dpkg", "-x", archive.name, "."], cwd=directory, check=True)
