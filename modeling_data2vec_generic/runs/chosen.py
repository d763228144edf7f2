"""The settings of a run that names neither a recipe nor an encoder: when they are chosen, and what is said of them."""

from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers.utils import logging

from .. import cli
from ..choosing.choice import choose, look_at, too_few
from ..choosing.device import device_of
from ..data.arguments import SOURCE_FLAGS, DataArguments
from ..data.sources.listing import check_sources
from ..reporting.dry_run import text_of
from ..reporting.provenance import plain, shown
from ..training.arguments import Data2VecTrainingArguments, ModelArguments
from ..training.checkpointing.output_dir import held_by
from .arguments import PRETRAINING

_PARENT = Path("output")  # of the folders of runs, as in the recipes
_SPLITS = ("train", "training", "data")  # names of files and folders that say nothing of what they hold

logger = logging.get_logger(__name__)


def chooses(flags: cli.Flags, arguments: ModelArguments) -> bool:
    """Whether the settings are left to the run, since neither a recipe nor an encoder is named."""
    return flags.recipe is None and not flags.of_recipe and not arguments.names_encoder


def with_output_dir(flags: cli.Flags, data_args: DataArguments, training_args: Data2VecTrainingArguments) -> cli.Flags:
    """The flags with an output directory, unless it is given: `output/NAME` by the name of the data, or with a number
    behind it if that holds a run. A run that is resumed has the last one that holds one; one that may overwrite has
    the first.

    Raises:
        ValueError: no data are named.
    """
    check_sources(data_args)
    if "output_dir" in cli.names_in(flags.given, PRETRAINING):
        return flags
    first = _PARENT / _name_of(data_args)
    folder, last, number = first, None, 1
    while any(held_by(folder)):
        last, number = folder, number + 1
        folder = first.with_name(f"{first.name}-{number}")
    reason = "the name of the data" if last is None else f"the name of the data, since {last} holds a run"
    if last is not None and str(training_args.resume_from_checkpoint).lower() == "true":
        folder, reason = last, "the last run of these data, which is resumed"
    elif training_args.overwrite_output_dir:
        folder, reason = first, "the name of the data"
    return flags.with_chosen({"output_dir": cli.Chosen(str(folder), reason)})


def _name_of(arguments: DataArguments) -> str:
    """What the first source is called, for a folder."""
    value = next(value for flag in SOURCE_FLAGS for value in getattr(arguments, flag) or ())
    named = [part for part in Path(value).resolve().parts[1:] if "*" not in part and "?" not in part]
    names = [name for part in named if (name := part.split(".")[0]) and name not in _SPLITS]
    return names[-1] if names else "data"


def with_settings(flags: cli.Flags, parsed: tuple[Any, ...], raw: DatasetDict, modality: str) -> cli.Flags:
    """The flags with settings that are chosen for the data and the device. If rows are few, a warning says so.

    Args:
        flags: of the run.
        parsed: an instance of each of the dataclasses of flags.
        raw: the rows, as `load_raw_datasets` gives them.
        modality: what they are.

    Raises:
        ValueError: nothing of the data can be read.
    """
    _, data_args, _, _, training_args = parsed
    values = {name: value for group in parsed for name, value in vars(group).items()}
    names = cli.names_in(flags.given, PRETRAINING)
    given = {name: plain(values[name]) for name in names if values[name] is not None}
    if given.get("max_steps") == -1:
        del given["max_steps"]
    seen = look_at(raw["train"], modality, data_args)
    if warning := too_few(seen):
        logger.warning(warning)
    return flags.with_chosen(choose(seen, device_of(training_args), given, modality, "validation" in raw))


def log_chosen(flags: cli.Flags) -> None:
    """Logs the settings that were chosen, each with its reason."""
    chosen = flags.chosen.items()
    rows: list[tuple[str, ...]] = [(name, shown(setting.value), setting.reason) for name, setting in chosen]
    title = "Neither a recipe nor an encoder is named, so settings are chosen. Flags override them."
    logger.info(text_of(title, [("", rows)]))
