"""What the loaders of a run do without training: samples per second, and how often a stream decodes a sample."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import PIL.ImageFile

from modeling_data2vec_generic import Data2VecTrainer
from modeling_data2vec_generic.training.loaders import begin_stream, stream_loader

from ..kills import processes
from .runs import Run, Stop

PROCESSES = 4
WORKERS = 2
BATCH_SIZE = 16
BATCHES = 50  # that each process reads
MOST_BATCHES = 1000  # of which the padding is counted
FIRST_BATCHES, TIMED_BATCHES = 10, 150  # the first ones include the start of the workers


@dataclass
class _Counting:
    """A collator that counts the samples that it is given."""

    collator: Callable[..., dict[str, Any]]
    samples: Any

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        with self.samples.get_lock():
            self.samples.value += len(examples)
        return self.collator(examples)


def timing(run: Run, began: float) -> Any:
    """A trainer that does not train, but reads the batches; `run.logged` gets the speed."""

    class Reading(Data2VecTrainer):
        def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
            batches = iter(dataloader)
            for _ in itertools.islice(batches, FIRST_BATCHES):
                pass
            start = time.perf_counter()
            read = sum(len(batch["pixel_values"]) for batch in itertools.islice(batches, TIMED_BATCHES))
            run.logged = {"samples_per_second": read / (time.perf_counter() - start)}
            raise Stop

    return Reading


def padding(run: Run, began: float) -> Any:
    """A trainer that does not train, but reads the batches; `run.logged` gets their share of padding."""

    class Reading(Data2VecTrainer):
        def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
            positions = [batch["mask_positions"] for batch in itertools.islice(dataloader, MOST_BATCHES)]
            sizes = [found.shape[0] * found.shape[-1] for found in positions]  # (B, M, T)
            real = [
                size if found.real is None else int(found.real.sum())
                for found, size in zip(positions, sizes, strict=True)
            ]
            run.logged = {"padding": 1 - sum(real) / sum(sizes), "batches": len(sizes)}
            raise Stop

    return Reading


def counting(run: Run, began: float) -> Any:
    """A trainer that does not train, but reads the stream as each of PROCESSES processes does, one after the other.

    `run.logged` gets the numbers of samples and of images that were decoded for them, by all loader workers.
    """
    samples, decodes = (processes.Value("q", 0) for _ in range(2))
    load = PIL.ImageFile.ImageFile.load

    def counted(image: Any) -> Any:
        with decodes.get_lock():
            decodes.value += bool(image.tile)  # it is empty once the image is decoded
        return load(image)

    class Reading(Data2VecTrainer):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            PIL.ImageFile.ImageFile.load = counted  # type: ignore[method-assign]
            collator = _Counting(self.training_collator(), samples)
            # Only workers that are forked inherit what counts.
            forked = {"dataloader_multiprocessing_context": "fork"}
            for rank in range(PROCESSES):
                settings: Any = SimpleNamespace(
                    **vars(self.args) | forked, device=self.args.device, world_size=PROCESSES, process_index=rank
                )
                stream: Any = self.train_dataset
                begin_stream(stream, BATCH_SIZE, None, settings)
                for _ in itertools.islice(stream_loader(stream, collator, settings), BATCHES):
                    pass
            run.logged = {"samples": samples.value, "decodes": decodes.value}
            raise Stop

    return Reading
