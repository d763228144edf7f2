"""What makes a step of several processes the step of one process with the same global batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import Trainer

from ..modeling_data2vec_generic import Data2VecGenericForPreTraining

REPEATED = "repeated"
"""Key of a batch that holds nothing but what another process has too: it goes through the model, since all processes
must do alike, and counts for nothing."""


class GlobalBatchTrainer(Trainer):
    """transformers' Trainer for losses that are sums over masked positions, on any number of processes.

    - The loss is divided by the masked positions of all micro-batches of all processes. A mean of the processes' means
      would give positions of processes that have few of them more weight.
    - Samples that accelerate repeats, so that all processes have full last batches, are taken out again, both in
      training and in evaluation. A stream, whose length is not known, keeps them.
    - `eval_loss` is that of one process with the same global batch.
    - FSDP shards student and teacher by their blocks.
    - DDP does not search for parameters without a gradient: they are frozen when the encoder is examined.
    """

    model: Data2VecGenericForPreTraining

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.model is not None:  # with `model_init` there is none yet
            self._settle_sharding()

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        self._settle_sharding()
        ddp = self.accelerator.ddp_handler
        if ddp is not None and self.args.ddp_find_unused_parameters is None:
            # An encoder for which no input can be made up is examined, and what is unused frozen, in its first pass.
            ddp.find_unused_parameters = self.model.measurements is None
        return super()._prepare_for_training(*args, **kwargs)

    def _settle_sharding(self) -> None:
        """FSDP shards student and teacher by their blocks, unless told otherwise."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
            # Not by `_no_split_modules`, where there may be a decoder's blocks, which the encoder alone does not have,
            # and embeddings, of which accelerate 1.15 makes a shard of its own, within the first.
            blocks = [self.model.encoder.get_submodule(name) for name in self.model.layout.stacks]
            plugin.transformer_cls_names_to_wrap = sorted({type(block).__name__ for block in blocks})

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple:
        """As ever, without repeated samples."""
        return super().get_batch_samples(map(self._own_samples, epoch_iterator), num_batches, device)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | int | None:
        """Masked positions of the whole optimizer step: Trainer counts labels other than -100, so it is given such."""
        counted = [batch["mask"].bool() & (REPEATED not in batch) for batch in batch_samples]
        return super()._get_num_items_in_batch([{"labels": torch.where(mask, 0, -100)} for mask in counted], device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """As ever; 0 for repeated samples."""
        read = {name: value for name, value in inputs.items() if name != REPEATED}
        loss, outputs = super().compute_loss(model, read, True, num_items_in_batch)
        loss = loss * 0 if REPEATED in inputs else loss
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Any]:
        """As ever, without repeated samples; the loss is that of the whole global batch."""
        loss, logits, labels = super().prediction_step(
            model, self._own_samples(inputs), prediction_loss_only, ignore_keys
        )
        return self.accelerator.reduce(loss, "mean"), logits, labels

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with _unsharded_class(self.model):
            super()._save(output_dir, state_dict)

    def _own_samples(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch without the samples that were added to the last one of a pass over the data."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader:
            return batch
        sampler = state.active_dataloader.batch_sampler
        while isinstance(sampler, SkipBatchSampler):  # of an epoch that was resumed
            sampler = sampler.batch_sampler
        if not isinstance(sampler, BatchSamplerShard) or sampler.drop_last or not sampler.even_batches:
            return batch
        size = len(batch["mask"])
        total = size * sampler.num_processes
        in_last_batch = len(state.active_dataloader.dataset) % total or total
        own = in_last_batch - size * sampler.process_index
        if own >= size:
            return batch
        kept = {
            name: value[: max(own, 1)] if isinstance(value, Tensor) and value.ndim else value
            for name, value in batch.items()
        }
        return kept if own > 0 else kept | {REPEATED: True}


@contextmanager
def _unsharded_class(model: nn.Module) -> Iterator[None]:
    """The class that a model had before `fully_shard` made it one of torch's, whose code would be saved for ours."""
    sharded = type(model)
    if isinstance(model, FSDPModule):
        model.__class__ = sharded.__bases__[1]
    try:
        yield
    finally:
        model.__class__ = sharded
