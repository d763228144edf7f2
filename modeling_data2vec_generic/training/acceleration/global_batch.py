"""What makes a step of several processes the step of one process with the same global batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from accelerate.state import GradientState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ...modeling_data2vec_generic import Data2VecGenericForPreTraining

REPEATED = "repeated"
"""Key of a batch all of whose samples another process has too. It goes through the model, since all processes must run
the same operations, and counts for nothing."""


def own_samples(batch: dict[str, Any], gradient_state: GradientState) -> dict[str, Any]:
    """The batch without the samples that accelerate repeats so that all processes have a full last batch.

    One sample stays of a batch that has none of its own; it is marked `REPEATED`. Batches of a stream, whose length is
    not known, are returned as they are.

    Args:
        batch: the latest one of the loader that is iterated over.
        gradient_state: accelerate's, which knows this loader.
    """
    if not gradient_state.end_of_dataloader:
        return batch
    sampler = gradient_state.active_dataloader.batch_sampler
    while isinstance(sampler, SkipBatchSampler):  # of an epoch that was resumed
        sampler = sampler.batch_sampler
    if not isinstance(sampler, BatchSamplerShard) or sampler.drop_last or not sampler.even_batches:
        return batch
    size = len(batch["mask"])
    total = size * sampler.num_processes
    in_last_batch = len(gradient_state.active_dataloader.dataset) % total or total
    own = in_last_batch - size * sampler.process_index
    if own >= size:
        return batch
    kept = {
        name: value[: max(own, 1)] if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim) else value
        for name, value in batch.items()
    }
    return kept if own > 0 else kept | {REPEATED: True}


def masks_as_labels(batches: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
    """For each batch, `labels` in which Trainer counts the masked positions: it counts labels other than -100."""
    own = [batch["mask"].bool().long() * (REPEATED not in batch) for batch in batches]
    return [{"labels": masked - 100} for masked in own]


def shard_by_blocks(accelerator: Accelerator, model: Data2VecGenericForPreTraining) -> None:
    """Let FSDP, where it is used, shard student and teacher by their blocks, unless the user names other modules."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
        # Not by `_no_split_modules`: it may name a decoder's blocks, which the encoder alone does not have, and
        # embeddings, of which accelerate 1.15 makes a shard of its own, within the first.
        blocks = [model.encoder.get_submodule(name) for name in model.layout.stacks]
        plugin.transformer_cls_names_to_wrap = sorted({type(block).__name__ for block in blocks})


def search_unused_parameters(accelerator: Accelerator, model: Data2VecGenericForPreTraining) -> None:
    """Let DDP, where it is used, search for parameters without a gradient only if they may not be frozen yet.

    They are frozen when the encoder is measured: when it is built or, if no input can be made up for it, in its first
    pass.
    """
    if accelerator.ddp_handler is not None:
        accelerator.ddp_handler.find_unused_parameters = model.measurements is None


@contextmanager
def unsharded_class(model: nn.Module) -> Iterator[None]:
    """Give a model that `fully_shard` has made one of torch's classes its former class as long as the context lasts.

    `save_pretrained` would save torch's code as that of the model.
    """
    sharded = type(model)
    if isinstance(model, FSDPModule):
        model.__class__ = sharded.__bases__[1]
    try:
        yield
    finally:
        model.__class__ = sharded
