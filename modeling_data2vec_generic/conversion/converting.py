"""The conversion of a checkpoint, from its file to a folder that `AutoModel` loads."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from ..errors import as_value_error, require_writable
from ..training.arguments import ModelArguments
from ..training.checkpointing.staging import place_folder, staging
from ..training.encoders import new_encoder_config, parse_overrides
from .checkpoints import plain, read_checkpoint, summarised, tensors_of
from .formats import FORMATS, data2vec_pytorch
from .formats.base_format import Format, Rules, Settings, Weights, original_name, renamed
from .processors import loaded_processor, made_processor

WEIGHTS = ("student", "teacher")
_OVERRIDE = "If sizes are wrong, give them with --config_overrides."
_EMA = re.compile(r"(.+\.)?_ema")  # where fairseq keeps the teacher: a state dict within the student's
_EMA_ROOTS = ("", "blocks.", "encoder.", "encoder.sentence_encoder.")  # modules of the student that the teacher copies


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint.

    Args:
        title: which kind of checkpoint it was.
        model: the encoder, or the model with a head if it was fine-tuned, with the weights of the checkpoint.
        model_dir: the folder that `AutoModel.from_pretrained` loads.
        left_out: names of weights of the checkpoint that the model has no place for.
        processor: what prepares data for the encoder; None for text, unless a tokenizer was named.
    """

    title: str
    model: PreTrainedModel
    model_dir: Path
    left_out: list[str]
    processor: Any


def convert(
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    weights: str = "student",
    config_name: str | None = None,
    model_type: str | None = None,
    config_overrides: str | None = None,
    processor_name: str | None = None,
) -> Conversion:
    """Converts a checkpoint of fairseq, of data2vec_vision/beit or of data2vec-pytorch.

    The weights are saved in float32. Nothing that the checkpoint names is imported or called.

    Args:
        checkpoint: the file that the program wrote.
        output_dir: a new folder. It becomes the model; of data2vec-pytorch, its sub-folder `encoder` does, beside
            `regression_head.safetensors`.
        weights: "student", or "teacher" for the EMA where the checkpoint has it.
        config_name: folder or Hub id of the configuration, for data2vec-pytorch, which does not save it.
        model_type: or the type of encoder, with its sizes in `config_overrides`.
        config_overrides: fields of the configuration, "num_attention_heads=12,layer_norm_eps=1e-6". They are needed
            where neither the checkpoint's settings nor the shapes of its weights say what they are.
        processor_name: folder or Hub id of the tokenizer, or of another processor than the one that is made.

    Raises:
        ValueError: the checkpoint cannot be read or is of another kind; it has weights that are not known, or lacks
            some; a field of the configuration is open; or the output directory is not new.
    """
    output = Path(output_dir)
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r} is not one of {', '.join(WEIGHTS)}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{str(output)!r} exists and is not an empty folder. Name a new folder for the model.")
    require_writable(output, "The output directory", "Choose another folder.")
    state = read_checkpoint(Path(checkpoint))
    head: Weights = {}
    if data2vec_pytorch.is_data2vec_pytorch(state):
        title, model, left_out, processor = _from_data2vec_pytorch(
            state, weights, config_name, model_type, config_overrides
        )
        head, model_dir = data2vec_pytorch.regression_head(state), "encoder"
    elif config_name is not None or model_type is not None:
        raise ValueError(
            "config_name and model_type are for checkpoints of data2vec-pytorch, which do not say what encoder they "
            "are of, and this is another one. Give single fields with config_overrides."
        )
    else:
        title, model, left_out, processor = _from_names(state, weights, config_overrides)
        model_dir = ""
    if processor_name is not None:
        processor = loaded_processor(processor_name, model)
    with staging(output.absolute().parent, "the converted model") as folder:
        model.save_pretrained(folder / model_dir)
        if processor is not None:
            processor.save_pretrained(folder / model_dir)
        if head:
            save_file(
                {name: weight.contiguous() for name, weight in head.items()}, folder / "regression_head.safetensors"
            )
        place_folder(folder, output)
    return Conversion(title, model, output / model_dir, left_out, processor)


def _from_names(
    checkpoint: dict[str, Any], weights: str, config_overrides: str | None
) -> tuple[str, PreTrainedModel, list[str], Any]:
    """Title, model, names of what is left out and processor, by the format that the names of weights belong to."""
    state = checkpoint.get("model")
    state = state if isinstance(state, dict) else checkpoint
    student = tensors_of(state)
    format_, prefix = _format_of(student)
    if weights == "teacher":
        student = student | _teacher(student, checkpoint, state)
    settings = _settings_of(checkpoint)
    _refuse_other_models(format_, settings)

    head, others = renamed(student, format_.head.rules) if format_.head else ({}, set(student))
    body = {name.removeprefix(prefix): student[name] for name in student if name in others}
    left_out = sorted(name for name in body if any(re.fullmatch(pattern, name) for pattern in format_.left_out))
    body = {name: weight for name, weight in body.items() if name not in left_out}
    found, unknown = renamed(body, format_.rules)
    try:
        fields = format_.config(body, settings) | (format_.head.config(head) if head and format_.head else {})
    except KeyError as error:  # a size follows from a weight that is not there
        raise _mismatch(format_.title, unknown, {str(error.args[0])}, []) from None
    for name, other in format_.zeros.items():
        found[name] = torch.zeros(1, found[other].shape[-1])

    model_class, arguments = format_.model_class, format_.arguments
    if head and format_.head is not None:
        model_class, arguments = format_.head.model_class, {}
        base = f"{model_class.base_model_prefix}."
        found = {base + name: weight for name, weight in found.items()}
        found |= {re.sub(r"^encoder\.", base, name): weight for name, weight in head.items()}
    config = _config(model_class, fields, config_overrides)
    with as_value_error(f"No {model_class.__name__} can be made of its configuration", _OVERRIDE):
        model: Any = model_class(config, **arguments)
    _fill(model, found, unknown, format_.title, format_.rules)
    return format_.title, model, left_out, made_processor(format_.modality, config, settings)


def _from_data2vec_pytorch(
    checkpoint: dict[str, Any],
    weights: str,
    config_name: str | None,
    model_type: str | None,
    config_overrides: str | None,
) -> tuple[str, PreTrainedModel, list[str], Any]:
    """Like `_from_names`, with the class of the configuration that is named."""
    if config_name is None and model_type is None:
        raise ValueError(
            "A checkpoint of data2vec-pytorch does not say what encoder it is of. Give the encoder_checkpoint of its "
            "YAML file as --config_name, e.g. roberta-base, or a folder with its config.json; or give --model_type "
            "and the sizes, e.g. --model_type roberta --config_overrides vocab_size=50265."
        )
    arguments = ModelArguments(config_name=config_name, model_type=model_type, config_overrides=config_overrides)
    config = new_encoder_config(arguments)
    with as_value_error(f"No {config.model_type} encoder can be made of its configuration", _OVERRIDE):
        model = AutoModel.from_config(config)
    _fill(model, data2vec_pytorch.encoder_weights(checkpoint, weights), set(), data2vec_pytorch.TITLE, ())
    return data2vec_pytorch.TITLE, model, [], None


def _format_of(student: Weights) -> tuple[Format, str]:
    """The format whose anchor is among the names, and what precedes all names of the encoder.

    Raises:
        ValueError: there is none.
    """
    for format_ in FORMATS:
        for name in student:
            if name == format_.anchor or name.endswith(f".{format_.anchor}"):
                return format_, name.removesuffix(format_.anchor)
    raise ValueError(
        "The checkpoint is of no known kind. Known are "
        + ", ".join(format_.title for format_ in FORMATS)
        + f" and {data2vec_pytorch.TITLE}. Its weights are: {summarised(list(student)) or 'none'}."
    )


def _teacher(student: Weights, checkpoint: dict[str, Any], state: dict[str, Any]) -> Weights:
    """The teacher's weights under the names of the student's. What the teacher lacks it takes from the student.

    Raises:
        ValueError: the checkpoint has no teacher, or one that is not a part of the student.
    """
    saved = [value for name, value in state.items() if _EMA.fullmatch(name)] or [checkpoint.get("model_ema")]
    teacher = tensors_of(saved[0] or {})
    if not teacher:
        raise ValueError(
            "--weights teacher: this checkpoint holds no weights of the teacher (EMA), as fine-tuned ones do. Convert "
            "the student, with --weights student."
        )
    for root in _EMA_ROOTS:
        if all(root + name in student for name in teacher):
            return {root + name: weight for name, weight in teacher.items()}
    raise ValueError(
        "--weights teacher: the teacher's weights have no counterparts among the student's: "
        f"{summarised(list(teacher))}."
    )


def _settings_of(checkpoint: dict[str, Any]) -> Settings:
    """The settings that a checkpoint was trained with; of a fine-tuned one, those of the pre-training before it."""
    settings = plain(checkpoint.get("cfg")) or plain(checkpoint.get("args"))
    model: Any = {}
    task: Any = {}
    while isinstance(settings, dict):
        model, task = (part if isinstance(part := settings.get(key), dict) else settings for key in ("model", "task"))
        settings = model.get("w2v_args") or model.get("pretrained_model_args")
    return Settings(model, task)


def _refuse_other_models(format_: Format, settings: Settings) -> None:
    for path, expected in format_.expected.items():
        value = settings.of_model(*path, default=expected)
        if value != expected:
            raise ValueError(
                f"The checkpoint has {'.'.join(('model', *path))}={value!r}. Only {expected!r}, as in the papers, can "
                f"be converted: with another value, no class computes the same as {format_.title}."
            )


def _config(model_class: Any, fields: dict[str, Any], config_overrides: str | None) -> Any:
    """The configuration of the model.

    Raises:
        ValueError: a field is open, or an override names no field.
    """
    overrides = parse_overrides(config_overrides)
    config_class = model_class.config_class
    unknown = [name for name in overrides if not hasattr(config_class(), name)]
    if unknown:
        raise ValueError(f"config_overrides sets {unknown}, which a {config_class.__name__} does not have.")
    fields = fields | overrides
    missing = [name for name, value in fields.items() if value is None]
    if missing:
        raise ValueError(
            f"Neither the settings in the checkpoint nor the shapes of its weights say what {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'}. Give --config_overrides "
            + ",".join(f"{name}=..." for name in missing)
            + ", from the recipe that the checkpoint was trained with."
        )
    with as_value_error(f"No {config_class.__name__} can be made of {fields}", _OVERRIDE):
        return config_class(**fields)


def _fill(model: PreTrainedModel, weights: Weights, unknown: set[str], title: str, rules: Rules) -> None:
    """Loads the weights into the model, which must have a place for each, and for which there must be one for each.

    Args:
        weights: by the model's names.
        unknown: names of further weights, which are in no rule.
        title: of the format, for the message.
        rules: of the format, so that the message has the checkpoint's names.

    Raises:
        ValueError: weights do not fit; the message lists them all.
    """
    places = model.state_dict()
    weights = {
        name: weight.reshape(places[name].shape) if _same_but_for_ones(weight, places.get(name)) else weight
        for name, weight in weights.items()
    }

    def named(name: str) -> str:
        return original_name(name.removeprefix(f"{model.base_model_prefix}."), rules)

    shapes = [
        f"{named(name)} is {list(weight.shape)} instead of {list(places[name].shape)}"
        for name, weight in weights.items()
        if name in places and weight.shape != places[name].shape
    ]
    unknown = unknown | {named(name) for name in weights.keys() - places.keys()}
    missing = {named(name) for name in places.keys() - weights.keys()}
    if unknown or missing or shapes:
        raise _mismatch(title, unknown, missing, shapes)
    model.load_state_dict(weights)


def _same_but_for_ones(weight: Tensor, place: Tensor | None) -> bool:
    """Whether shapes differ only in axes of length 1, of which older versions of fairseq had fewer."""
    return place is not None and [n for n in weight.shape if n > 1] == [n for n in place.shape if n > 1]


def _mismatch(title: str, unknown: set[str], missing: set[str], shapes: list[str]) -> ValueError:
    parts = [
        f"weights that are not known: {summarised(unknown)}" if unknown else "",
        f"weights that are missing: {summarised(missing)}" if missing else "",
        f"other shapes: {'; '.join(shapes)}" if shapes else "",
    ]
    return ValueError(
        f"The checkpoint was recognised as {title}, but does not fit: {'. '.join(filter(None, parts))}. Variants of "
        f"the model that are not in the papers cannot be converted, nor parts of a checkpoint. {_OVERRIDE}"
    )


__all__ = ["WEIGHTS", "Conversion", "convert"]
