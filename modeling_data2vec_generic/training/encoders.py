"""Loads an encoder or makes a new one, as flags say, and saves it to a folder that AutoModel loads."""

import ast
import copy
import difflib
import os
import re
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..configuration_data2vec_generic import Data2VecGenericConfig
from ..errors import as_value_error
from ..modeling_data2vec_generic import Data2VecGenericModel, encoder_of
from ..quirks_data2vec_generic import quirks_of
from ..remote_code_data2vec_generic import require_safetensors
from .arguments import ModelArguments

logger = logging.get_logger(__name__)

_MOST_LAYERS = 10_000
_CHECK_FIELDS = "Check the sizes and types of its fields"


def load_encoder(arguments: ModelArguments) -> PreTrainedModel:
    """The encoder of `model_name_or_path`, in float32.

    It is the student of a data2vec checkpoint, and the encoder of an encoder-decoder. Weights are read from
    safetensors only.

    Raises:
        ValueError: there are no such weights, a file is missing or damaged, or the model is too large.
    """
    return load_encoder_and_gaps(arguments)[0]


def load_encoder_and_gaps(arguments: ModelArguments) -> tuple[PreTrainedModel, set[str], set[str]]:
    """Like `load_encoder`, with the names of weights that were not loaded.

    Returns:
        The encoder; names of its weights that the source lacks, which are new; names of the source's weights that it
        does not use, such as those of a head for another task or of a decoder.
    """
    source, trust = str(arguments.model_name_or_path), arguments.trust_remote_code
    require_safetensors(source)
    with as_value_error(
        f"model_name_or_path={source!r} cannot be loaded as an encoder",
        "Check that it is a folder or a Hub id with a config.json and model.safetensors that belong together"
        f"{_or_attention(arguments.attn_implementation)}.",
    ):
        if not trust:  # trusted code may use as much memory as it likes
            check_size(AutoConfig.from_pretrained(source, trust_remote_code=False))
        model, info = AutoModel.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust,
            output_loading_info=True,
            attn_implementation=arguments.attn_implementation,
        )
    encoder = model.encoder if isinstance(model, Data2VecGenericModel) else encoder_of(model)
    path = next(name for name, module in model.named_modules() if module is encoder)
    prefix = f"{path}." if path else ""
    missing = {name.removeprefix(prefix) for name in info["missing_keys"] if name.startswith(prefix)}
    require_fitting_weights(f"model_name_or_path={source!r}", encoder, missing, info["unexpected_keys"])
    own = {weight.data_ptr() for weight in encoder.state_dict().values()}  # shared embeddings have two names
    others = {name for name, weight in model.state_dict().items() if weight.data_ptr() not in own}
    return _reading_all(encoder), missing, set(info["unexpected_keys"]) | (others - set(info["missing_keys"]))


def require_fitting_weights(source: str, encoder: PreTrainedModel, missing: set[str], unexpected: set[str]) -> None:
    """Make sure that some weight of an encoder was loaded.

    Args:
        source: where from, in words.
        encoder: the encoder.
        missing: names of its weights that the source lacks.
        unexpected: names of the source's weights that the model does not have.

    Raises:
        ValueError: none was.
    """
    # Scales and biases, such as those of norms, have the same names and sizes in models of different types.
    if missing >= {name for name, parameter in encoder.named_parameters() if parameter.ndim > 1}:
        raise ValueError(
            f"No weight of {source} fits its configuration, a {encoder.config.model_type} encoder: it holds "
            f"{_some_names(unexpected)}, and {_some_names(missing)} are expected. Its config.json and "
            "model.safetensors belong to different models."
        )


def _reading_all(encoder: PreTrainedModel) -> PreTrainedModel:
    """The encoder, with settings by which it does not mask parts of its input itself."""
    for name, value in quirks_of(encoder.config.model_type).settings.items():
        if getattr(encoder.config, name) != value:
            logger.info(
                f"{name}={value} instead of {getattr(encoder.config, name)}: the encoder reads all of its input."
            )
            setattr(encoder.config, name, value)
    return encoder


def _some_names(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "") if names else "nothing"


def check_size(config: Any) -> None:
    """Raise ValueError if float32 weights of a configuration would not fit into the memory of this machine."""
    for name, value in config.to_dict().items():
        if name.endswith("layers") and isinstance(value, int) and value > _MOST_LAYERS:
            raise ValueError(f"{name}={value} is more than {_MOST_LAYERS}.")
    with torch.device("meta"):
        model = AutoModel.from_config(config, trust_remote_code=False)
    needed = 4 * sum(parameter.numel() for parameter in model.parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(
            f"The weights of this {config.model_type} encoder take {needed / 1e9:,.0f} GB, and this machine has "
            f"{memory / 1e9:,.0f} GB of memory."
        )


def main_input_of(arguments: ModelArguments) -> str | None:
    """The main input, such as "pixel_values", of the encoder that the flags name.

    It follows from the encoder's type; None for a type that transformers does not know, and if no encoder is named.
    """
    if not arguments.names_encoder:
        return None
    source = arguments.model_name_or_path or arguments.config_name
    if source is not None and arguments.trust_remote_code:
        return None
    if source is not None:
        with as_value_error(
            f"{source!r} cannot be loaded as an encoder", "Check that it is a folder or Hub id of a model."
        ):
            config: Any = AutoConfig.from_pretrained(source)
    else:
        config = _default_config(str(arguments.model_type))
    if isinstance(config, Data2VecGenericConfig):
        config = config.encoder_config
    found: str | None = getattr(MODEL_MAPPING.get(type(config), None), "main_input_name", None)
    return found


def new_encoder_config(arguments: ModelArguments, defaults: dict[str, Any] | None = None) -> PreTrainedConfig:
    """Configuration of an encoder from scratch.

    Args:
        arguments: `model_type` or `config_name` (for a data2vec checkpoint, that of its student), and
            `config_overrides`, which come first.
        defaults: values that the data require, e.g. a vocabulary size, for fields that the configuration has.

    Raises:
        ValueError: the model type is unknown, or an override names no field of its configuration.
    """
    if arguments.config_name is not None:
        with as_value_error(
            f"config_name={arguments.config_name!r} cannot be loaded as a configuration",
            "Check that it is a folder or a Hub id with the config.json of an encoder.",
        ):
            default = AutoConfig.from_pretrained(arguments.config_name, trust_remote_code=arguments.trust_remote_code)
            saved, _ = type(default).get_config_dict(arguments.config_name)
            if isinstance(default, Data2VecGenericConfig):
                default, saved = default.encoder_config, saved["encoder_config"]
    else:
        default, saved = _default_config(str(arguments.model_type)), {}
    overrides = parse_overrides(arguments.config_overrides)
    unknown = [name for name in overrides if not hasattr(default, name)]
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(default.to_dict()), n=3)
        raise ValueError(
            f"config_overrides sets {unknown}, which a {default.model_type} configuration does not have."
            + (f" Did you mean {' or '.join(close)}?" if close else "")
        )
    # From the given fields, not from `default`, which holds values derived from fields that are overridden.
    fitting = {name: value for name, value in (defaults or {}).items() if hasattr(default, name)}
    with as_value_error(
        f"A {default.model_type} configuration cannot be made of config_overrides={overrides}", f"{_CHECK_FIELDS}."
    ):
        # The name says where the configuration's own code is.
        config = type(default).from_dict(saved | fitting | overrides, name_or_path=arguments.config_name or "")
    config._attn_implementation = arguments.attn_implementation
    return config


def new_encoder(config: PreTrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """An encoder with new weights; for an encoder-decoder, its encoder.

    Raises:
        ValueError: fields of the configuration contradict each other, or it is too large for this machine.
    """
    remedy = f"{_CHECK_FIELDS}{_or_attention(config._attn_implementation)}."
    with as_value_error(f"No {config.model_type} encoder can be made of its configuration", remedy):
        if not trust_remote_code:
            check_size(config)
        return _reading_all(encoder_of(AutoModel.from_config(config, trust_remote_code=trust_remote_code)))


def _or_attention(attn_implementation: str | None) -> str:
    """The end of an error message where an attention was chosen that the encoder or this machine may lack."""
    if attn_implementation is None:
        return ""
    return f", and that attn_implementation={attn_implementation!r} is installed and made for this type of encoder"


def save_encoder(
    encoder: PreTrainedModel, directory: str | os.PathLike, weights: dict[str, Tensor] | None = None
) -> None:
    """Write an encoder to a folder so that `AutoModel` loads it.

    `weights`: its whole state dict, where its own parameters are sharded; default: its own.

    `AutoModel` loads an encoder-decoder from the configuration of one, so its encoder is saved as a part of it. The
    decoder is that of the model from which the encoder was loaded, or else a new one.
    """
    config: Any = encoder.config
    is_part = type(config).is_encoder_decoder and type(config) in MODEL_MAPPING
    whole_class: Any = MODEL_MAPPING[type(config)] if is_part else type(encoder)
    if isinstance(encoder, whole_class):
        encoder.save_pretrained(directory, state_dict=weights)
        return
    if encoder.name_or_path:
        whole = whole_class.from_pretrained(encoder.name_or_path, dtype=encoder.dtype, use_safetensors=True)
    else:
        whole = whole_class(copy.deepcopy(config)).to(encoder.dtype)
    part = encoder_of(encoder)
    prefix = next(f"{name}." if name else "" for name, module in encoder.named_modules() if module is part)
    weights = encoder.state_dict() if weights is None else weights
    encoder_of(whole).load_state_dict(
        {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    )
    whole.save_pretrained(directory)


def parse_overrides(text: str | None) -> dict[str, Any]:
    """`name=value,name=value` with Python's literals for values, lists included; other words are strings.

    Raises:
        ValueError: an item has no `=`.
    """
    overrides: dict[str, Any] = {}
    for item in re.split(r",(?=\s*\w+\s*=)", text or ""):
        name, equals, value = item.partition("=")
        if item and not equals:
            raise ValueError(
                f"config_overrides has {item!r} where name=value is expected, as in "
                "hidden_size=96,num_hidden_layers=4."
            )
        if item:
            overrides[name.strip()] = _literal(value.strip())
    return overrides


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):  # a word, such as gelu
        return {"true": True, "false": False, "none": None}.get(value.lower(), value)


def _default_config(model_type: str) -> PreTrainedConfig:
    if model_type not in CONFIG_MAPPING:
        close = difflib.get_close_matches(model_type, list(CONFIG_MAPPING), n=3)
        raise ValueError(
            f"model_type={model_type!r} is not a type that transformers knows. "
            + (f"Did you mean {' or '.join(close)}? " if close else "")
            + "The types are listed in transformers.CONFIG_MAPPING, e.g. vit, beit, bert, roberta, wav2vec2."
        )
    return CONFIG_MAPPING[model_type]()
