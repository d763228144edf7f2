"""`python -m benchmarks.data`: how fast samples are read, prepared and collated, and the share of a step that takes.

Prints a Markdown table; README.md in this folder explains it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import soundfile
import torch
from accelerate.utils import send_to_device
from datasets import Dataset, Features, List
from torch.utils.data import DataLoader
from transformers import CONFIG_MAPPING, AutoModel
from transformers.utils import logging

from modeling_data2vec_generic import Data2VecGenericForPreTraining, MaskSampler
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.masking.sampler import MaskArguments
from modeling_data2vec_generic.modalities import modality_class
from modeling_data2vec_generic.modalities.presets import mask_settings, objective_config
from modeling_data2vec_generic.training.arguments import ModelArguments, ObjectiveArguments

from .cases import SAMPLING_RATE, SIZES, tokenizer
from .device import CPU, Device
from .rows import tables
from .rows.sources import write_images
from .step import table
from .timing import LibraryLoop, adamw

COLUMNS = (
    "case",
    "workers",
    "samples per s",
    "per worker",
    "ms of a worker per sample",
    "KiB per sample",
    "step, ms",
    "of a step",
)
FILES = 64  # that are written; more samples read them again
OBJECTIVE = "data2vec"


def write_text(folder: Path, count: int) -> Path:
    """Lines of made-up words, `count` times 512 of them, and a tokenizer that knows them."""
    words = tokenizer(50265)
    words.save_pretrained(folder / "tokenizer")
    rng = np.random.default_rng(0)
    lines = (" ".join(f"word{i}" for i in rng.integers(0, 50000, 32)) for _ in range(16 * count))
    path = folder / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_wav(folder: Path, count: int) -> Path:
    """Files of ten seconds of noise, 16 bits at 16 kHz."""
    return _write_sound(folder, count, "wav")


def write_flac(folder: Path, count: int) -> Path:
    """The same, compressed without loss."""
    return _write_sound(folder, count, "flac")


def _write_sound(folder: Path, count: int, ending: str) -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        sound = rng.normal(0, 0.1, 10 * SAMPLING_RATE).cumsum() * 0.01  # low tones are louder, as in speech
        soundfile.write(folder / f"{number:03d}.{ending}", sound / np.abs(sound).max(), SAMPLING_RATE)
    return folder


def write_series(folder: Path, count: int) -> Path:
    """Series of 512 values of 7 channels."""
    waves = np.random.default_rng(0).normal(size=(count, 512, 7)).astype(np.float32)
    path = folder / "series.parquet"
    Dataset.from_dict({"series": list(waves)}).to_parquet(path)
    return path


def write_video(folder: Path, count: int) -> Path:
    """Clips of 16 frames, which are JPEG files of 500 x 375 pixels."""
    frames = sorted(write_images(folder, 16).iterdir())
    content = [{"bytes": frame.read_bytes(), "path": None} for frame in frames]
    path = folder / "video.parquet"
    features = Features({"video": List(datasets.Image())})
    Dataset.from_dict({"video": [content] * count}, features=features).to_parquet(path)
    return path


@dataclass(frozen=True)
class Case:
    """One kind of data and an encoder that reads it.

    Args:
        modality: the kind of data.
        model_type: the type of the encoder in transformers.
        write: writes so many samples into a folder, and returns the folder or file to read.
        batch_sizes: samples per step on a CPU and on a GPU.
        settings: fields of the encoder's config, besides the size of its blocks.
    """

    modality: str
    model_type: str
    write: Callable[[Path, int], Path]
    batch_sizes: tuple[int, int]
    settings: tuple[tuple[str, Any], ...] = ()

    def load(self, folder: Path, count: int, size: str) -> tuple[Data2VecGenericForPreTraining, Dataset, Any]:
        """A model, the prepared samples and the collator of a loader, as `run_pretraining.py` makes them."""
        source = self.write(folder, count)
        flag = "train_dir" if source.is_dir() else "train_file"
        data_args = DataArguments(**{flag: str(source)}, modality=self.modality)
        processor = str(folder / "tokenizer") if self.modality == "text" else None
        model_args = ModelArguments(model_type=self.model_type, processor_name=processor)
        raw = load_raw_datasets(data_args, self.modality, validation=False)["train"]
        modality = modality_class(self.modality)(model_args, data_args, raw)
        blocks = dict(SIZES[size])
        if self.model_type == "patchtst":
            blocks["d_model"], blocks["ffn_dim"] = blocks.pop("hidden_size"), blocks.pop("intermediate_size")
        elif self.model_type == "data2vec-audio" and size == "quick":
            blocks["conv_dim"] = (16,) * 7  # as many layers as usual, which are the slowest part
        config = CONFIG_MAPPING[self.model_type](**blocks, **dict(self.settings) | modality.encoder_defaults())
        encoder = AutoModel.from_config(config)
        modality.fit(encoder)
        chosen = mask_settings(MaskArguments(), OBJECTIVE, self.modality)
        mask = MaskSampler(**{name.removeprefix("mask_"): value for name, value in chosen.items()})
        config = objective_config(ObjectiveArguments(objective=OBJECTIVE), encoder.config, self.modality)
        collator = modality.collator(mask, config.num_masks, 0, config.student_input)
        model = Data2VecGenericForPreTraining(config, encoder).train()
        return model, modality.prepare(raw, "train", mask), collator.finished_on_device()


SPEECH = (("mask_time_prob", 0.0), ("vocab_size", 32))
CASES = {
    "images": Case("vision", "vit", write_images, (8, 128)),
    "text": Case("text", "roberta", write_text, (4, 64), (("max_position_embeddings", 514), ("type_vocab_size", 1))),
    "speech-wav": Case("speech", "data2vec-audio", write_wav, (2, 16), SPEECH),
    "speech-flac": Case("speech", "data2vec-audio", write_flac, (2, 16), SPEECH),
    "series": Case("series", "patchtst", write_series, (8, 256), (("patch_length", 16), ("patch_stride", 16))),
    "video": Case("video", "videomae", write_video, (1, 8)),
}


def loading_times(
    dataset: Any, collator: Any, batch_size: int, workers: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float, dict[str, Any]]:
    """Reads a data set once by a loader, which pins no memory, and times it by a clock.

    The first batch of each worker is not counted, for which it has to start.

    Returns:
        Seconds per sample and bytes that leave a worker per sample, and one batch.
    """
    loader = DataLoader(dataset, batch_size, collate_fn=collator, num_workers=workers, drop_last=True)
    began, counted, size, batch = 0.0, 0, 0, {}
    for number, batch in enumerate(loader, start=1 - max(workers, 1)):
        if number == 0:
            began = clock()
        counted += batch_size * (number > 0)
        size = sum(tensor.nbytes for value in batch.values() for tensor in _tensors(value))
    return (clock() - began) / max(counted, 1), size / batch_size, batch


def _tensors(value: Any) -> list[torch.Tensor]:
    """A value of a batch that is a tensor, or the tensors that it holds (`MaskPositions`)."""
    parts = [value, *getattr(value, "__dict__", {}).values()]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def step_seconds(model: Data2VecGenericForPreTraining, batch: dict[str, Any], device: Device) -> float:
    """The time of an optimizer step of the library, without its Trainer."""
    loop, inputs = LibraryLoop(model, adamw(model), device), send_to_device(batch, device.type)
    times = [device.seconds(lambda: loop.step(inputs)) for _ in range(4)]
    return median(times[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.rows is not None or options.padding:
        tables.main(options)
        return
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    device = Device("cuda", torch.bfloat16) if torch.cuda.is_available() else CPU
    rows: list[list[str]] = []
    for name in options.case or CASES:
        sys.stderr.write(f"{name}\n")
        rows += _measured(name, options, device)
    sys.stdout.write(f"{device.describe()}\n\n{table(COLUMNS, rows)}")


def _measured(name: str, options: argparse.Namespace, device: Device) -> list[list[str]]:
    case, found = CASES[name], []
    batch_size = options.batch_size or case.batch_sizes[device.type == "cuda"]
    with tempfile.TemporaryDirectory() as written:
        torch.manual_seed(0)
        model, rows, collator = case.load(
            Path(written), min(FILES, options.samples), "quick" if options.quick else "base"
        )
        enough = batch_size * (max(options.workers) + 3)  # each worker's first batch is not counted
        dataset = rows.select(np.arange(max(options.samples, enough)) % len(rows))
        for workers in options.workers:
            found.append((workers, *loading_times(dataset, collator, batch_size, workers)))
        step = options.step_ms / 1000 if options.step_ms else step_seconds(model.to(device.type), found[0][3], device)
    return [
        [
            name,
            str(workers),
            f"{1 / seconds:.1f}",
            f"{1 / seconds / max(workers, 1):.1f}",
            f"{1000 * seconds * max(workers, 1):.2f}",
            f"{size / 1024:.1f}",
            f"{1000 * step:.1f}",
            f"{100 * seconds * batch_size / step:.1f}%",
        ]
        for workers, seconds, size, _ in found
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="numbers of workers")
    parser.add_argument("--samples", type=int, default=256, help="samples per measurement, at least")
    parser.add_argument("--batch_size", type=int, help="samples per batch; default: each case's own")
    parser.add_argument("--step_ms", type=float, help="time of a step; default: it is measured")
    parser.add_argument("--rows", type=int, help="measure how runs with so many rows begin, and not the cases")
    parser.add_argument("--source", nargs="+", metavar="NAME", help="with --rows: sources; default: all")
    parser.add_argument("--padding", nargs="+", metavar="PATH", help="measure the padding of text or speech")
    parser.add_argument("--quick", action="store_true", help="steps of tiny encoders, to see that everything runs")
    return parser


if __name__ == "__main__":
    main()
