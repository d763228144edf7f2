"""Files and folders that get their final names only when they are whole."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

UNFINISHED_DIR = "_unfinished"  # Trainer uploads nothing whose name begins with an underscore
FULL = (errno.ENOSPC, errno.EDQUOT)
PROBE_BYTES = 1 << 20


class DiskFullError(OSError):
    """A save failed because the disk, or a quota, is full. What it wrote is removed; older files are whole."""


@contextmanager
def staging(directory: Path, what: str) -> Iterator[Path]:
    """The folder `directory/_unfinished` to write `what` into, on the same disk, so that renaming is atomic.

    If the block fails, the folder is deleted. A block that succeeds moves its files out and calls `clear`.

    Raises:
        DiskFullError: the disk or a quota is full.
    """
    folder = directory / UNFINISHED_DIR
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Exception as error:
        full, written = is_full_disk(error, folder), size(folder)
        clear(directory)
        if full:
            raise DiskFullError(_explanation(what, directory, written)) from error
        raise


def clear(directory: Path) -> None:
    """Delete what an unfinished save or deletion left in `directory`."""
    folder = directory / UNFINISHED_DIR
    if folder.is_dir():
        shutil.rmtree(folder)


def place_folder(folder: Path, destination: Path) -> None:
    """Give a whole folder its final name. A folder that already has this name is renamed first, then deleted."""
    sync(folder)
    set_aside = None
    if destination.is_dir():
        set_aside = _set_aside(destination)
    folder.rename(destination)
    _sync_entry(destination.parent)
    if set_aside is not None:
        shutil.rmtree(set_aside)


def place_files(folder: Path, destination: Path) -> None:
    """Move the files of `folder` to the same places under `destination`; each replaces an older one at once.

    Other weights of an older save, such as shards, are deleted: `from_pretrained` might prefer them.
    """
    sync(folder)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for file in files:
        target = destination / file
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / file).replace(target)
    if any(file.suffix == ".safetensors" for file in files):
        for path in destination.glob("model*.safetensors*"):
            if path.relative_to(destination) not in files:
                path.unlink()
    for parent in {(destination / file).parent for file in files}:
        _sync_entry(parent)


@contextmanager
def whole_files(what: str, directory: str | os.PathLike, output_dir: str | os.PathLike) -> Iterator[str]:
    """A folder whose files are moved to `directory` once all are written, so that older ones are never half replaced.

    Args:
        what: what is written, for an error message.
        directory: where the files belong.
        output_dir: of the run. The folder lies in it if `directory` does, else in `directory`: files can't be renamed
            across disks.

    Raises:
        DiskFullError: the disk is full; the older files are unchanged.
    """
    output_dir, directory = Path(output_dir), Path(directory)
    nearby = output_dir if directory.is_relative_to(output_dir) else directory
    with staging(nearby, what) as folder:
        (folder / "files").mkdir()
        yield str(folder / "files")
        place_files(folder / "files", directory)
    clear(nearby)


def discard(folder: Path) -> None:
    """Rename a folder, then delete it, so that half of it is never seen under its name."""
    folder = _set_aside(folder)
    shutil.rmtree(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def rotate(directory: Path, limit: int | None, keep: set[str]) -> None:
    """Delete the oldest checkpoints beyond `limit`, as Trainer does, except those in `keep`. None or 0: no limit."""
    if not limit:
        return
    checkpoints = sort_checkpoints(str(directory), use_mtime=True)
    excess = len(checkpoints) - max(limit, len(keep))
    old = [path for path in checkpoints if path not in {str(Path(kept)) for kept in keep}]
    for path in old[: max(excess, 0)]:
        discard(Path(path))


def place_checkpoint(folder: Path, destination: Path, limit: int | None, best: str | None) -> None:
    """Give a whole checkpoint its final name, then delete the oldest ones beyond `limit`, never this one or `best`."""
    place_folder(folder, destination)
    rotate(destination.parent, limit, {str(destination)} | ({best} if best is not None else set()))
    clear(destination.parent)


def sync(folder: Path) -> None:
    """Wait until a folder and its files are on the disk: after a crash its new name could be there without them."""
    for parent, _, files in os.walk(folder):
        for path in (*(os.path.join(parent, file) for file in files), parent):
            _sync_entry(Path(path))


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def is_full_disk(error: BaseException | None, folder: Path) -> bool:
    """Whether an error, or one that caused it, is that of a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        # safetensors and tokenizers are written in Rust, whose errors have the number in their text only.
        if any(re.search(rf"\(os error {code}\)", str(error)) for code in FULL):
            return True
        # torch.save only says that its file is shorter than it should be.
        if isinstance(error, RuntimeError) and re.search("inline_container|PytorchStreamWriter", str(error)):
            return not _has_room(folder)
        error = error.__cause__ or error.__context__
    return False


def _has_room(folder: Path) -> bool:
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    except OSError as error:
        if error.errno in FULL:
            return False
        raise
    finally:
        probe.unlink(missing_ok=True)
    return True


def _explanation(what: str, directory: Path, written: int) -> str:
    free = shutil.disk_usage(directory).free
    checkpoint = get_last_checkpoint(str(directory))
    if checkpoint is None:
        needed, then = (
            f"more than {_megabytes(written)} are needed",
            "There is no checkpoint to resume from yet: start",
        )
    else:
        needed = f"a checkpoint takes {_megabytes(size(Path(checkpoint)))}"
        then = f"The last good checkpoint is {checkpoint}: make room, or move the folder to another disk, and resume"
    return (
        f"{what} could not be saved: the disk of {directory} (or your quota on it) is full. {_megabytes(free)} are "
        f"free, {needed}. What was written of it is removed. {then} with --resume_from_checkpoint true. "
        "--save_total_limit 2 keeps no more than two checkpoints."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _set_aside(folder: Path) -> Path:
    aside = folder.parent / UNFINISHED_DIR / f"old-{folder.name}"
    if aside.is_dir():
        shutil.rmtree(aside)
    aside.parent.mkdir(exist_ok=True)
    return folder.rename(aside)


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
