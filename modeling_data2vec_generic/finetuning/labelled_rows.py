"""The labelled rows of a run: reading them, holding some out for validation, and choosing those to train on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from ..data.arguments import DataArguments
from ..data.column_types import holds_files
from ..data.kinds_of_data import KINDS
from ..data.quality.screening import path_of
from ..data.sources.raw_datasets import infer_modality, limited, read_splits
from ..data.splitting import SPLIT_SEED, split_positions, warn_of_validation
from ..data.summary import note
from . import splitting
from .arguments import TaskArguments
from .labels.regression import Regression
from .tasks import Task, named_task, task_class
from .tasks.base import Splits

logger = logging.get_logger(__name__)

_BATCH = 100  # rows whose files are in memory at a time


def read_rows(
    data_args: DataArguments, task_args: TaskArguments, encoder_reads: Callable[[], str | None] = lambda: None
) -> tuple[type[Task], DataArguments, Splits]:
    """Read the labelled rows of a source and find out which task they are for.

    Args:
        encoder_reads: returns the name of the encoder's main input, by which `infer_modality` may find the modality.

    Returns:
        The class of the task, the data flags with modality and label column filled in, and the source's own splits.

    Raises:
        ValueError: a column does not exist, or it is not clear which task the data are for.
    """
    if data_args.streaming:
        raise ValueError(
            "--streaming is for pre-training: fine-tuning chooses its rows by their labels. Leave it out."
        )
    if data_args.dataset_weights is not None:
        raise ValueError("--dataset_weights is for pre-training: fine-tune on one source, or join their files.")
    named = None if task_args.task is None else named_task(task_args.task)
    if data_args.modality is None and named is not None:
        data_args = replace(data_args, modality=named.modality_name)
    modality = infer_modality(data_args, encoder_reads)
    label = data_args.label_column_name or (named.label_column if named is not None else "label")
    # All rows are checked, since metrics must be those of the same rows whatever is run on them.
    data_args = replace(data_args, modality=modality, label_column_name=label, check_data=True)
    columns = {"group": task_args.group_column_name, "text_pair": task_args.text_pair_column_name}
    further = {name: column for name, column in columns.items() if column is not None}
    words = named is not None and named.reads_words
    labels = "numbers" if task_args.problem_type == Regression.problem_type else "any"
    if named is not None and named.reads_text_labels:
        labels = "text"
    splits = read_splits(data_args, modality, further, words, labels)
    task = task_class(task_args.task, modality, splits["train"].features["label"])
    if named is None:
        logger.info(f"task={task.name}, inferred from the data.")
    return task, data_args, splits


def parted_rows(splits: Splits, task: Task, data_args: DataArguments) -> Splits:
    """The splits `train` and `validation`, each with at most as many rows as the flags say.

    If the source has no validation rows, a part of the training rows is held out. Which ones does not depend on
    --seed.

    Args:
        splits: with labels encoded by the task.

    Raises:
        ValueError: there are no validation rows, or a group is in both splits.
    """
    if "validation" not in splits:
        splits = _held_out(splits["train"], task, data_args.validation_split_percentage / 100)
    elif "group" in splits["train"].features:
        splitting.require_apart(*(_groups(splits[split]) for split in ("train", "validation")))
    splits = limited(splits, data_args, task.strata)
    warn_of_validation(len(splits["validation"]), task.counts(splits["validation"]))
    return {split: splits[split] for split in ("train", "validation")}


def chosen_rows(splits: Splits, task: Task, task_args: TaskArguments, seed: int) -> Splits:
    """The splits with the training rows that --labels_per_class or --label_fraction choose.

    Args:
        splits: as returned by `parted_rows`.
        seed: of the random choice.

    Raises:
        ValueError: the chosen rows can't be trained on, for example because a class has none.
    """
    train = splits["train"]
    strata = task.strata(train)
    if task_args.labels_per_class is not None:
        if strata is None:
            raise ValueError("labels_per_class is for one class per row; use --label_fraction.")
        names = train.features["label"].names
        train = train.select(splitting.per_class(strata, task_args.labels_per_class, seed, names))
    elif task_args.label_fraction is not None:
        train = train.select(splitting.fraction(strata, len(train), task_args.label_fraction, seed))
    task.check(train)
    logger.info(f"{len(train)} training and {len(splits['validation'])} validation rows.")
    return {"train": train, "validation": splits["validation"]}


def paths_of(rows: Dataset, modality: str) -> dict[int, str]:
    """The path of each row's file, by the number of the row in the source. Rows without a file are left out.

    If a row has several files (the images of a clip), it is the path of the first.
    """
    column = KINDS[modality].column
    if not holds_files(rows.features[column]):
        return {}
    found: dict[int, str] = {}
    for batch in rows.with_format(None).select_columns(["sample_index", column]).iter(_BATCH):
        paths = zip(batch["sample_index"], map(path_of, batch[column]), strict=True)
        found.update((number, path) for number, path in paths if path)
    return found


def _held_out(train: Dataset, task: Task, share: float) -> Splits:
    if share == 0:
        raise ValueError(
            "There are no validation rows, so nothing can be measured. Give --validation_file or --validation_dir, or "
            "a --validation_split_percentage above 0."
        )
    if "group" in train.features:
        kept, held_out = splitting.by_group(_groups(train), share, SPLIT_SEED, task.strata(train))
    else:
        kept, held_out = split_positions(len(train), task.strata(train), share, in_order=False)
    if not len(kept) or not len(held_out):
        raise ValueError(
            f"{len(train)} training rows are too few to hold {share:.0%} of them out for validation. Add data, or set "
            "--validation_split_percentage."
        )
    note("validation", f"{len(held_out)} of {len(train)} training rows are held out.")
    return {"train": train.select(kept), "validation": train.select(held_out)}


def _groups(dataset: Dataset) -> list[str]:
    values: list[Any] = dataset["group"][:]
    if missing := sum(value is None for value in values):
        raise ValueError(f"{missing} of {len(values)} rows have no group: fill in group_column_name or remove them.")
    return [str(value) for value in values]


__all__ = ["chosen_rows", "parted_rows", "paths_of", "read_rows"]
