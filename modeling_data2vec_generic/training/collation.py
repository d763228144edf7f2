"""A Trainer whose training batches are made otherwise than those of its evaluation."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from .checkpoints import InterruptibleTrainer


class _EpochCallback(TrainerCallback):
    """Tells a collator that draws by epoch which one it is."""

    def __init__(self, trainer: "TwoCollatorTrainer"):
        # Not a cycle: dataloaders with workers are to be freed with the trainer, not by the garbage collector.
        self.trainer = weakref.proxy(trainer)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if hasattr(self.trainer.data_collator, "set_epoch"):
            self.trainer.data_collator.set_epoch(int(state.epoch or 0))


class TwoCollatorTrainer(InterruptibleTrainer):
    """An [`InterruptibleTrainer`] with a collator of its own for evaluation.

    Args:
        eval_data_collator: collator of the evaluation, which neither augments nor varies by epoch; default: the
            training one.
    """

    def __init__(self, *args: Any, eval_data_collator: Callable[..., Any] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.eval_data_collator = eval_data_collator or self.data_collator
        self.add_callback(_EpochCallback(self))

    def training_collator(self) -> Callable[..., Any]:
        """What makes the training batches."""
        return self.data_collator

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return super()._get_train_sampler(self._with_lengths(dataset))

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return super()._get_eval_sampler(self._with_lengths(eval_dataset))

    def _with_lengths(self, dataset: Any) -> Any:
        """What Trainer groups by length: a dataset of the samples' lengths alone, which are read without decoding a
        sample. Without such a column, tokens are left to Trainer to count, and sound too; images, clips and windows of
        series are all of one size."""
        name = self.args.length_column_name
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, Dataset):
            return dataset
        if name in dataset.column_names:
            return dataset.with_format(None).select_columns(name)
        if not {"input_ids", "audio"} & set(dataset.column_names):
            return Dataset.from_dict({name: [1] * len(dataset)})
        return dataset

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable[..., Any] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        with self._loader_settings(is_training):
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, dataloader_key)

    @contextmanager
    def _loader_settings(self, is_training: bool) -> Iterator[None]:
        """Trainer knows one collator only, and drops the last batch of the evaluation along with that of training; it
        reads both when it makes a loader."""
        own = self.data_collator, self.args.dataloader_drop_last
        if is_training:
            self.data_collator = self.training_collator()
        else:
            self.data_collator, self.args.dataloader_drop_last = self.eval_data_collator, False
        try:
            yield
        finally:
            self.data_collator, self.args.dataloader_drop_last = own
