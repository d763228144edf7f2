"""Folders that transformers and sentence-transformers load."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel

from ..errors import as_value_error
from ..hub.layout import PROCESSOR_FILES
from ..inputs_data2vec_generic import main_input
from ..training.encoders import save_encoder

POOLINGS = ("mean", "cls")


def write_transformers(encoder: PreTrainedModel, source: Path, folder: Path) -> None:
    """Write an encoder and its processor as `AutoModel` and the Auto classes of processors load them.

    Args:
        source: the folder that has the files of the processor, which are copied.
    """
    save_encoder(encoder, folder)
    copy_processor(source, folder)


def copy_processor(source: Path, folder: Path) -> None:
    """Copy the files of a tokenizer, an image processor or a feature extractor, as far as there are any."""
    for path in sorted(source.iterdir()):
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in PROCESSOR_FILES):
            shutil.copyfile(path, folder / path.name)


def write_sentence_transformers(
    encoder: PreTrainedModel, source: Path, folder: Path, pooling: str = "mean", normalize: bool = False
) -> None:
    """Write a text encoder as `SentenceTransformer` loads it: the encoder, then pooling, then division by the length.

    Args:
        pooling: "mean" over all tokens, the special ones too, or "cls", the first token.
        normalize: whether vectors have length 1.

    Raises:
        ValueError: the encoder does not read text, or its folder has no tokenizer.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r} is not one of {', '.join(POOLINGS)}, which sentence-transformers has.")
    if main_input(encoder) != "input_ids":
        raise ValueError(
            f"sentence-transformers embeds text, and this {encoder.config.model_type} encoder reads "
            f"{main_input(encoder)}. Choose another --format."
        )
    write_transformers(encoder, source, folder)
    with as_value_error(f"{str(source)!r} has no tokenizer that can be loaded", "sentence-transformers needs one."):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    config: Any = encoder.config
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    places = ["", *(f"{number}_{name}" for number, name in enumerate(modules) if number)]
    _write(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{name}"}
            for number, (name, place) in enumerate(zip(modules, places, strict=True))
        ],
    )
    limits = [
        tokenizer.model_max_length,
        getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length,
    ]
    _write(folder / "sentence_bert_config.json", {"max_seq_length": min(limits), "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    for place in places[1:]:
        (folder / place).mkdir()
    _write(
        folder / places[1] / "config.json",
        {
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
        },
    )


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
