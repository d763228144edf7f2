"""The loaders of training and of evaluation: their collators, batches of varying size, and streams."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import seed_worker
from transformers.utils import logging

from ..data.quality.reading import ROWS_READ
from ..data.streams.layout import settled_layout
from ..data.streams.sample_stream import SampleStream, StreamCollator, StreamPosition
from ..mask_positions_data2vec_generic import MaskPositions
from ..versions import loader_flag
from .checkpointing.signals import init_worker
from .grouping import TokenBatches

logger = logging.get_logger(__name__)


class EpochCallback(TrainerCallback):
    """Tells a collator and a sampler that draw by epoch which epoch begins.

    Trainer and accelerate tell the sampler too, but not through all of the samplers that they wrap it in.

    Args:
        trainer: whose `data_collator` may have `set_epoch`.
    """

    def __init__(self, trainer: Any):
        # Not a cycle: dataloaders with workers must be freed with the trainer, not by the garbage collector.
        self.trainer: Any = weakref.proxy(trainer)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        batches: Any = getattr(kwargs["train_dataloader"], "batch_sampler", None)
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        drawing: Any
        for drawing in (self.trainer.data_collator, batches, getattr(batches, "sampler", None)):
            if hasattr(drawing, "set_epoch"):
                drawing.set_epoch(int(state.epoch or 0))


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give attributes of an object these values as long as the context lasts."""
    former = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in former.items():
            setattr(owner, name, value)


@dataclass
class TensorsOnly:
    """A collator whose batches lack `mask_positions`, which the model then computes of the mask, and reports on rows.

    Args:
        collator: the collator that makes the batches.
    """

    collator: Callable[..., dict[str, Any]]

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        left_out = [name for name, value in batch.items() if name == ROWS_READ or isinstance(value, MaskPositions)]
        return {name: value for name, value in batch.items() if name not in left_out}


def loader_collator(collator: Callable[..., Any], dataset: Any, accelerator: Accelerator) -> Callable[..., Any]:
    """The collator of a loader: with a last step on the device if it has one; see `UnfinishedBatch`.

    Where accelerate reads batches in one process, joins them and shares them out (`dispatch_batches`, by default for
    an iterable data set that is no `SampleStream`), it can do so with tensors only.
    """
    shared_out = accelerator.dispatch_batches
    if shared_out is None:
        shared_out = isinstance(dataset, IterableDataset) and not isinstance(dataset, SampleStream)
    if shared_out:
        return TensorsOnly(collator)
    return collator.finished_on_device() if hasattr(collator, "finished_on_device") else collator


def loader_of_batches(
    dataset: Any,
    batches: TokenBatches,
    collator: Callable[..., Any],
    accelerator: Accelerator,
    arguments: TrainingArguments,
) -> DataLoader:
    """A loader of this process's share of batches of varying size, prepared by accelerate."""
    seeded = partial(seed_worker, num_workers=arguments.dataloader_num_workers, rank=arguments.process_index)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collator,
        persistent_workers=arguments.dataloader_persistent_workers,
        in_order=loader_flag(arguments, "dataloader_in_order"),
        **loader_settings(arguments) | {"worker_init_fn": partial(init_worker, seeded)},
    )
    # accelerate can't repeat samples where the size of a batch varies. There are as many batches for each process.
    with replaced(accelerator.dataloader_config, even_batches=False):
        return accelerator.prepare(loader)


class StreamLoader(DataLoader):
    """A loader that moves its batches to the device, as those that accelerate has prepared do.

    Args:
        arguments: the run's; the device and the settings of loaders are read from them.
        args, kwargs: those of `DataLoader`.
    """

    def __init__(self, arguments: TrainingArguments, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.arguments = arguments

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        moved = partial(send_to_device, device=self.arguments.device, non_blocking=self.pin_memory)
        return map(moved, super().__iter__())


def stream_loader(stream: SampleStream, collator: Callable[..., Any], arguments: TrainingArguments) -> DataLoader:
    """A loader of this process's batches of a stream, each with its PROGRESS.

    It is not prepared by accelerate, which would divide among processes what the stream has divided already.
    """
    return StreamLoader(
        arguments,
        stream,
        batch_size=None,  # the stream gives whole batches
        collate_fn=StreamCollator(collator),
        persistent_workers=arguments.dataloader_persistent_workers,
        **loader_settings(arguments),
    )


def begin_stream(
    stream: SampleStream, batch_size: int, resumed: StreamPosition | None, arguments: TrainingArguments
) -> StreamPosition:
    """Sets a stream to the place where the batches of this process begin, and returns it.

    Args:
        batch_size: samples per batch of this process.
        resumed: the position to go on from; None to begin at the beginning.
    """
    processes, workers = arguments.world_size, max(arguments.dataloader_num_workers, 1)
    if resumed is None:
        layout = settled_layout(stream.rows, processes, workers, batch_size, stream.rows_in_memory)
        resumed = StreamPosition(layout)
    if not resumed.layout.has_own_lanes(processes * workers, batch_size, resumed.samples):
        logger.warning(
            f"The {resumed.layout.lanes} lanes of the stream, which were settled when the run began, cannot be shared "
            f"out among {processes} processes with {workers} workers each: some rows are read by several workers, and "
            "decoded by one. The order of the samples stays the same. To avoid this, resume with "
            f"--per_device_train_batch_size {resumed.layout.block}, and with processes and --dataloader_num_workers "
            f"whose product divides {resumed.layout.lanes}."
        )
    stream.start, stream.batch_size = resumed, batch_size
    stream.rank, stream.num_processes = arguments.process_index, processes
    return resumed


def loader_settings(arguments: TrainingArguments) -> dict[str, Any]:
    """Arguments of torch's `DataLoader`, for a loader that reads with the workers that the run's loaders have."""
    return {
        "num_workers": arguments.dataloader_num_workers,
        "pin_memory": arguments.dataloader_pin_memory,
        "prefetch_factor": arguments.dataloader_prefetch_factor,
        "multiprocessing_context": loader_flag(arguments, "dataloader_multiprocessing_context"),
        "worker_init_fn": partial(init_worker, None),
    }
