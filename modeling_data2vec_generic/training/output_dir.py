"""Whose output directory is it: a new run's, or that of a run that is to be resumed."""

from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint
from transformers.utils import logging

from .arguments import RunArguments
from .staging import discard

FINISHED = ("config.json", "trainer_state.json")  # what a run leaves at its end

logger = logging.get_logger(__name__)


def resumed_checkpoint(arguments: RunArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names; "true" is the last one of the output directory.

    None if there is none yet, so that one command both starts a run and, as often as it is repeated, resumes it.

    Raises:
        ValueError: a folder is named that is not there.
    """
    wanted = arguments.resume_from_checkpoint
    if wanted is None or str(wanted).lower() == "false":
        return None
    if str(wanted).lower() != "true":
        if not Path(str(wanted)).is_dir():
            raise ValueError(f"resume_from_checkpoint={wanted!r} is no folder. Name a checkpoint-N folder, or 'true'.")
        return str(wanted)
    return last_checkpoint(arguments)


def last_checkpoint(arguments: RunArguments) -> str | None:
    """The newest checkpoint-N of the output directory, if there is one."""
    output_dir = str(arguments.output_dir)
    return get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None


def claim(arguments: RunArguments) -> None:
    """Make sure that a new run does not mix with an old one in the same directory.

    Raises:
        ValueError: the directory holds a run, and neither resuming nor overwriting was asked for.
    """
    output_dir = Path(str(arguments.output_dir))
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"output_dir={str(output_dir)!r} is a file. Name a folder.")
    with arguments.main_process_first(local=False, desc="looking at the output directory"):
        checkpoints = sorted(output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
        finished = [path for name in FINISHED for path in [output_dir / name] if path.exists()]
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
