"""Which checkpoint a run resumes, and whether a new run may use its output directory."""

from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint
from transformers.utils import logging

from ...errors import require_writable
from ..arguments import RunArguments
from .staging import discard

FINISHED = ("config.json", TRAINER_STATE_NAME)  # what a run leaves at its end
_END = "all_results.json"  # which no checkpoint has

logger = logging.get_logger(__name__)


def resumed_checkpoint(arguments: RunArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names: a checkpoint-N folder, or the last one of a run's folder;
    "true" is the last one of the output directory.

    None if the output directory has none yet, so that one command both starts a run and, as often as it is repeated,
    resumes it.

    Raises:
        ValueError: the named folder does not exist, or neither is nor holds a checkpoint.
    """
    wanted = arguments.resume_from_checkpoint
    if wanted is None or str(wanted).lower() == "false":
        return None
    if str(wanted).lower() != "true":
        if not Path(str(wanted)).is_dir():
            raise ValueError(f"resume_from_checkpoint={wanted!r} is no folder. Name a checkpoint-N folder, or 'true'.")
        return _checkpoint_in(str(wanted))
    return last_checkpoint(arguments)


def _checkpoint_in(folder: str) -> str:
    """The folder itself if it is a checkpoint, else the last one in it."""
    if Path(folder).resolve().name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
        return folder
    if (last := get_last_checkpoint(folder)) is not None:
        logger.info(f"{folder} holds checkpoints: resuming from the last one, {last}.")
        return last
    if Path(folder, _END).is_file():
        raise ValueError(
            f"resume_from_checkpoint={folder!r} is the folder of a finished run that kept no checkpoint. Start a new "
            "run from its weights with --model_name_or_path."
        )
    if not Path(folder, TRAINER_STATE_NAME).is_file():
        raise ValueError(
            f"resume_from_checkpoint={folder!r} neither is a checkpoint (it has no {TRAINER_STATE_NAME}) nor holds "
            f"any. Name a {PREFIX_CHECKPOINT_DIR}-N folder or one that holds some, or 'true' for the output directory."
        )
    return folder


def last_checkpoint(arguments: RunArguments) -> str | None:
    """The newest checkpoint-N of the output directory, if there is one."""
    output_dir = str(arguments.output_dir)
    return get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None


def held_by(output_dir: Path) -> tuple[list[Path], list[Path]]:
    """The checkpoints in an output directory, and other files by which it holds a run."""
    checkpoints = sorted(output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
    return checkpoints, [path for name in FINISHED for path in [output_dir / name] if path.exists()]


def claim(arguments: RunArguments) -> None:
    """Make sure that a new run does not mix with an old one in the same directory.

    Raises:
        ValueError: the directory holds a run, and neither resuming nor overwriting was asked for; or it can't be
            written.
    """
    output_dir = Path(str(arguments.output_dir))
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"output_dir={str(output_dir)!r} is a file. Name a folder.")
    with arguments.main_process_first(local=False, desc="checking the output directory"):
        require_writable(output_dir, "output_dir", "Name another with --output_dir, or change its permissions.")
        checkpoints, finished = held_by(output_dir)
        if resumed_checkpoint(arguments) is not None:
            return
        if not checkpoints and not finished:
            if str(arguments.resume_from_checkpoint).lower() == "true":
                logger.info(f"{output_dir} holds no checkpoint to resume from yet: starting from the beginning.")
            return
        if not arguments.overwrite_output_dir:
            names = ", ".join(path.name for path in [*checkpoints, *finished][:3])
            resume = (
                "Resume it with --resume_from_checkpoint true" if checkpoints else "It has no checkpoint to resume"
            )
            raise ValueError(
                f"output_dir={str(output_dir)!r} already holds a run ({names}). {resume}, start anew with "
                "--overwrite_output_dir, or name another folder."
            )
        for checkpoint in checkpoints:  # or the next resume would pick up one of the old run's
            discard(checkpoint)
