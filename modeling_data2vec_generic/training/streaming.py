"""Runs over a stream: where it stands goes into each checkpoint, and a resumed run goes on from there."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.windowed_stream import POSITION, Position, StreamCollator, WindowedStream
from .collation import TwoCollatorTrainer

STREAM_NAME = "stream.json"


class StreamingTrainer(TwoCollatorTrainer):
    """A [`TwoCollatorTrainer`] whose `train_dataset` may be a `WindowedStream`.

    A checkpoint then holds the stream's position behind the last batch that was trained on (`stream.json`), and a
    resumed run begins to read there instead of reading and dropping all that came before. Batches are shared out by
    the stream itself, not by accelerate.

    Args:
        stream_identity: what the stream was made of; a checkpoint of another stream is refused.

    Raises:
        ValueError: a checkpoint that is resumed has no position, or that of another stream.
    """

    def __init__(self, *args: Any, stream_identity: dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.stream_identity = stream_identity
        self._stream_position = ""
        self._resumed_batches: Iterator[Any] | None = None

    def get_train_dataloader(self) -> DataLoader:
        stream = self.train_dataset
        if not isinstance(stream, WindowedStream):
            return super().get_train_dataloader()
        stream.batch_size = self._train_batch_size
        stream.rank, stream.num_processes = self.args.process_index, self.args.world_size
        # Not prepared by accelerate, which would share out what the stream has shared out.
        return DataLoader(
            stream,
            batch_size=self._train_batch_size,
            collate_fn=StreamCollator(self.training_collator()),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        self._resumed_batches = None
        if isinstance(self.train_dataset, WindowedStream):
            start = Position() if resume_from_checkpoint is None else self._position_in(Path(resume_from_checkpoint))
            self.train_dataset.start, self._stream_position = start, start.to_json()
            if resume_from_checkpoint is not None:
                self._resumed_batches = iter(train_dataloader)
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        # Trainer's own iterator would skip as many batches as were trained on, but the stream already stands there.
        if self._resumed_batches is not None:
            epoch_iterator = self._resumed_batches
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self._stream_position = batch.pop(POSITION, self._stream_position)
        return batches, num_items

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self._stream_position and self.args.should_save:
            saved = {"stream": self.stream_identity, "position": json.loads(self._stream_position)}
            Path(output_dir, STREAM_NAME).write_text(json.dumps(saved, indent=2), encoding="utf-8")

    def _position_in(self, checkpoint: Path) -> Position:
        path = checkpoint / STREAM_NAME
        if not path.is_file():
            raise ValueError(
                f"{checkpoint} has no {STREAM_NAME}: it is of a run without --streaming, so there is no place in the "
                "stream to go on from. Resume it without --streaming."
            )
        saved = json.loads(path.read_text(encoding="utf-8"))
        identity = self.stream_identity or {}
        changed = [
            f"{name} was {saved['stream'].get(name)!r} and is {value!r}"
            for name, value in identity.items()
            if saved["stream"].get(name) != value
        ]
        if changed:
            raise ValueError(
                f"{checkpoint} stands in another stream: {'; '.join(changed)}. Resume with the same settings, or "
                "start a new run from its weights with --model_name_or_path."
            )
        return replace(Position(), **saved["position"])
