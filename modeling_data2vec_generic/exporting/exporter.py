"""`export`: one call from the folder of a model to the folder of its export."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from ..errors import require_writable
from .folders import copy_processor, write_sentence_transformers, write_transformers
from .graphs import write_onnx, write_program
from .loading import folder_of, load

FORMATS = ("transformers", "sentence-transformers", "onnx", "torch")
GRAPHS: Mapping[str, tuple[str, Callable[[PreTrainedModel, Path], list[str]]]] = {
    "onnx": ("model.onnx", write_onnx),
    "torch": ("model.pt2", write_program),
}


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        folder: where it is.
        model_type: the type of the encoder.
        format: one of `FORMATS`.
        file: the graph of the formats "onnx" and "torch".
        inputs: the names of its inputs, in their order.
    """

    folder: Path
    model_type: str
    format: str
    file: Path | None = None
    inputs: tuple[str, ...] = ()


def export(
    model: str | Path,
    output_dir: str | Path,
    *,
    format: str = "transformers",
    weights: str = "student",
    pooling: str = "mean",
    normalize: bool = False,
    trust_remote_code: bool = False,
) -> Export:
    """Write the encoder of a model, with its processor, in a form that other programs load.

    Args:
        model: a pre-training run's output directory or `checkpoint-N`, the folder of a plain encoder, or a Hub id.
        output_dir: a new folder, which is there once all of it is written.
        format: "transformers" for `AutoModel`; "sentence-transformers" for `SentenceTransformer`, of text encoders;
            "onnx" for `model.onnx` and "torch" for `model.pt2`, a program of torch.export, both beside the processor.
        weights: "student" or "teacher", the average of the student that gave the targets, of a pre-training run.
        pooling: "mean" or "cls", of sentence-transformers.
        normalize: whether vectors of sentence-transformers have length 1.
        trust_remote_code: whether code that comes with the model may be run.

    Raises:
        ValueError: a value is none of these, the folder is not empty, the model can't be loaded, or it can't be
            written in this format; the message says why.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is not one of {', '.join(FORMATS)}.")
    output = Path(output_dir)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"output_dir={str(output)!r} exists and is not empty: name a new folder.")
    require_writable(output, f"output_dir={str(output)!r} cannot be written to", "Name another folder.")
    source = folder_of(str(model))
    encoder = load(source, weights, trust_remote_code)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}-", dir=output.absolute().parent) as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir()
        file, inputs = None, []
        if format == "transformers":
            write_transformers(encoder, source, folder)
        elif format == "sentence-transformers":
            write_sentence_transformers(encoder, source, folder, pooling, normalize)
        else:
            name, write = GRAPHS[format]
            inputs = write(encoder, folder / name)
            encoder.config.save_pretrained(folder)
            copy_processor(source, folder)
            file = output / name
        if output.exists():
            output.rmdir()
        shutil.move(folder, output)
    return Export(output, encoder.config.model_type, format, file, tuple(inputs))
