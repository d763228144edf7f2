"""Whose output directory is it: a new run's, or that of a run that is to be resumed."""

import shutil
from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from .arguments import Data2VecTrainingArguments


def resumed_checkpoint(arguments: Data2VecTrainingArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names; "true" is the last one of the output directory.

    Raises:
        ValueError: there is no such checkpoint.
    """
    wanted = arguments.resume_from_checkpoint
    if wanted is None or str(wanted).lower() == "false":
        return None
    output_dir = str(arguments.output_dir)
    if str(wanted).lower() != "true":
        if not Path(str(wanted)).is_dir():
            raise ValueError(f"resume_from_checkpoint={wanted!r} is no folder. Name a checkpoint-N folder, or 'true'.")
        return str(wanted)
    last = get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None
    if last is None:
        raise ValueError(
            f"resume_from_checkpoint=true, but {output_dir} holds no checkpoint. Leave the flag out to start a new "
            "run."
        )
    return last


def claim(arguments: Data2VecTrainingArguments) -> None:
    """Make sure that a new run does not mix with an old one in the same directory.

    Raises:
        ValueError: the directory holds a run, and neither resuming nor overwriting was asked for.
    """
    output_dir = Path(str(arguments.output_dir))
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"output_dir={str(output_dir)!r} is a file. Name a folder.")
    checkpoints = sorted(output_dir.glob("checkpoint-*"))
    traces = [
        *checkpoints,
        *(path for path in (output_dir / "config.json", output_dir / "trainer_state.json") if path.exists()),
    ]
    if not traces or resumed_checkpoint(arguments) is not None:
        return
    if not arguments.overwrite_output_dir:
        raise ValueError(
            f"output_dir={str(output_dir)!r} already holds a run ({', '.join(path.name for path in traces[:3])}). "
            "Resume it with --resume_from_checkpoint true, start anew with --overwrite_output_dir, or name another "
            "folder."
        )
    for checkpoint in checkpoints:  # or the next resume would pick up one of the old run's
        shutil.rmtree(checkpoint)
