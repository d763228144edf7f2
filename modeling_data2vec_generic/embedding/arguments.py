"""The settings of `data2vec embed`: its own, and those of data and encoder that it shares with the runs."""

import re
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any

from ..data.arguments import DataArguments
from ..training.arguments import ModelArguments

POOLINGS = ("mean", "cls", "tokens")
FORMATS = (".parquet", ".npy", ".safetensors")
DTYPES = ("float32", "bfloat16", "float16")
ROWS_PER_PIECE = {"mean": 1024, "cls": 1024, "tokens": 128}
OF_DATA = (
    *("dataset_name", "dataset_config_name", "train_file", "train_dir", "modality", "streaming"),
    *("text_column_name", "image_column_name", "audio_column_name", "series_column_name", "video_column_name"),
    *("label_column_name", "max_bad_fraction", "preprocessing_num_workers", "max_seq_length"),
    *("max_duration_in_seconds", "array_sampling_rate", "black_level", "white_level"),
)
_OF_MODEL = ("processor_name", "trust_remote_code", "attn_implementation")


@dataclass
class EmbeddingArguments:
    """How vectors are computed, and where they go.

    Raises:
        ValueError: a flag has a value that cannot be used, or two flags contradict each other.
    """

    output: str | None = field(
        default=None,
        metadata={
            "help": "File for the vectors: .parquet (vectors, ids and labels in one table), .npy or .safetensors (ids "
            "and labels lie beside them, in a file that ends in .rows.jsonl). Its folder is made if needed."
        },
    )
    overwrite: bool = field(
        default=False,
        metadata={"help": "Replace the output, and start over where another embedding of that name was stopped."},
    )
    split: str = field(
        default="train",
        metadata={
            "help": "Rows of which split are embedded, train or validation, where the source has both. Sources "
            "without splits are train."
        },
    )

    pooling: str = field(
        default="mean",
        metadata={
            "help": "mean: the mean over the content, without padding and without tokens in front of patches such as "
            "CLS. cls: the first token, where the encoder has one. tokens: a vector for each position of the content."
        },
    )
    layer: int | None = field(
        default=None,
        metadata={
            "help": "Take the output of this block, counted from 1, or from the last one with -1. Default: the last "
            "hidden state, which may have gone through one more norm."
        },
    )
    top_k_layers: int | None = field(
        default=None, metadata={"help": "Take the mean over the outputs of the last so many blocks."}
    )
    normalize: str | None = field(
        default=None,
        metadata={"help": "l2: scale each vector to length 1, so that products are cosines."},
    )

    dtype: str = field(
        default="float32",
        metadata={"help": "Precision of the encoder's computations: float32, bfloat16 or float16."},
    )
    output_dtype: str = field(
        default="float32",
        metadata={"help": "Type of the vectors in the output: float32 or float16."},
    )
    device: str | None = field(
        default=None, metadata={"help": "cpu, cuda, cuda:1, mps, ... Default: the fastest one that there is."}
    )
    batch_size: int = field(default=32, metadata={"help": "Samples that go through the encoder at a time."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that read and decode rows, beside each process of an encoder."}
    )
    rows_per_piece: int | None = field(
        default=None,
        metadata={
            "help": "Rows that are in memory, and written, at a time; what a stopped run loses at most, by each of "
            "its processes and workers. Default: 1024, or 128 with --pooling tokens."
        },
    )
    neighbours: int | None = field(
        default=None,
        metadata={"help": "Also write a page that shows some rows, each with so many others that are most like it."},
    )

    export: str | None = field(
        default=None,
        metadata={
            "help": "sentence-transformers: also write a folder that SentenceTransformer loads, for the same vectors "
            "of text. Its name ends in .sentence-transformers."
        },
    )

    def __post_init__(self) -> None:
        for name, choices in (
            ("pooling", POOLINGS),
            ("normalize", (None, "l2")),
            ("dtype", DTYPES),
            ("output_dtype", ("float32", "float16")),
            ("export", (None, "sentence-transformers")),
            ("split", ("train", "validation")),
        ):
            if getattr(self, name) not in choices:
                named = ", ".join(str(choice) for choice in choices if choice is not None)
                raise ValueError(f"{name}={getattr(self, name)!r} is not known. Choose one of: {named}.")
        for name in ("batch_size", "rows_per_piece", "top_k_layers", "neighbours"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be 1 or more.")
        if self.dataloader_num_workers < 0:
            raise ValueError(f"dataloader_num_workers={self.dataloader_num_workers} must be 0 or more.")
        if self.layer == 0:
            raise ValueError("layer=0 is no block: they are counted from 1, and from the last one with -1.")
        if self.layer is not None and self.top_k_layers is not None:
            raise ValueError(
                f"layer={self.layer} takes one block and top_k_layers={self.top_k_layers} several: give one of them."
            )
        if self.neighbours is not None and self.pooling == "tokens":
            raise ValueError("neighbours compares one vector per row: choose --pooling mean or cls.")
        if self.export is not None and (
            self.pooling == "tokens" or self.layer is not None or self.top_k_layers is not None
        ):
            raise ValueError(
                f"export={self.export!r} pools the last hidden state: leave out --layer and --top_k_layers, and "
                "choose --pooling mean or cls."
            )
        if self.output is not None and Path(self.output).suffix not in FORMATS:
            raise ValueError(f"output={self.output!r} must end in one of {', '.join(FORMATS)}.")
        if self.device is not None and not re.fullmatch(r"[a-z]+(:\d+)?", self.device):
            raise ValueError(f"device={self.device!r} is no device of torch, such as cpu, cuda or cuda:1.")


def _some(name: str, of: type, names: tuple[str, ...], docstring: str) -> Any:
    """A dataclass with some of the fields of another, so that both have the same flags with the same help."""
    chosen = [(item.name, item.type, item) for item in fields(of) if item.name in names]
    made = make_dataclass(name, chosen)
    made.__module__, made.__doc__ = __name__, docstring
    return made


DataSettings = _some("DataSettings", DataArguments, OF_DATA, "Where rows are and how they are read.")
ModelSettings = _some("ModelSettings", ModelArguments, _OF_MODEL, "How the encoder is loaded.")
ARGUMENTS = (EmbeddingArguments, DataSettings, ModelSettings)
