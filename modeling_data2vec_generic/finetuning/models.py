"""Loading an encoder and building a model for a task from it, with a report of which weights are loaded and new."""

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..configuration_data2vec_generic import Data2VecGenericConfig
from ..errors import as_value_error
from ..modeling_data2vec_generic import Data2VecGenericPreTrainedModel
from ..training.arguments import ModelArguments
from ..training.encoders import load_encoder_and_gaps, new_encoder, new_encoder_config

logger = logging.get_logger(__name__)

_MOST_NAMED = 8  # weights that a message names; the others are counted


@dataclass(frozen=True)
class Source:
    """An encoder, and which of its weights were loaded from a checkpoint.

    Args:
        encoder: the plain encoder.
        missing: names of its weights that the checkpoint lacks, which are new; without a checkpoint, all names.
        unused: names of weights of the checkpoint that the encoder does not have.
    """

    encoder: PreTrainedModel
    missing: frozenset[str]
    unused: frozenset[str]


def load_source(arguments: ModelArguments, defaults: dict[str, Any]) -> Source:
    """Load the encoder that the flags name, or make a new one of `model_type` or `config_name`.

    Args:
        arguments: `model_name_or_path` may be the output directory of a pre-training run, the `encoder` folder or a
            checkpoint-N in it, any other model folder, or a Hub id.
        defaults: fields of a new encoder's configuration that suit the data.
    """
    if arguments.model_name_or_path is not None:
        encoder, missing, unused = load_encoder_and_gaps(arguments)
        return Source(encoder, frozenset(missing), frozenset(unused))
    encoder = new_encoder(new_encoder_config(arguments, defaults), arguments.trust_remote_code)
    return Source(encoder, frozenset(encoder.state_dict()), frozenset())


def build_model(
    source: Source,
    auto_class: Any,
    own_class: type[Data2VecGenericPreTrainedModel] | None,
    settings: dict[str, Any],
    drop_path: float | None = None,
    own_head: bool = False,
    pretrained: bool = True,
) -> PreTrainedModel:
    """The encoder with a new head: one of `auto_class` if it has one for the encoder's type, else one of `own_class`.

    The log says which weights are loaded, which are new and which were left out.

    Args:
        auto_class: Auto class of transformers for the task; None if there is none.
        own_class: this package's model for the task; None if there is none.
        settings: fields of the configuration that the task needs.
        drop_path: `drop_path_rate` of the encoder; None leaves it as it is.
        own_head: use `own_class` even if `auto_class` has a head.
        pretrained: whether to load the encoder's weights; otherwise all weights are new.

    Raises:
        ValueError: the encoder does not support drop path, there is no head for it, or none of its weights fits the
            model.
    """
    config = copy.deepcopy(source.encoder.config)
    if drop_path is not None:
        if not hasattr(config, "drop_path_rate"):
            raise ValueError(
                f"drop_path={drop_path}, but a {config.model_type} encoder has no drop path (no drop_path_rate in its "
                "configuration). Leave it out."
            )
        with as_value_error(f"drop_path={drop_path} can't be set for a {config.model_type} encoder", "Leave it out."):
            config.drop_path_rate = drop_path
    model = None if own_head else _with_head_of_transformers(source.encoder, auto_class, config, settings)
    if model is None:
        if own_class is None:
            raise ValueError(
                f"transformers has no {auto_class.__name__} of type {config.model_type}, and this package has no head "
                f"of its own for it. Choose an encoder of another type: {', '.join(_types_with(auto_class))}."
            )
        logger.info(f"The head of the {config.model_type} encoder is this package's {own_class.__name__}.")
        encoder = new_encoder_of(source.encoder, config)
        model = own_class(Data2VecGenericConfig(encoder_config=encoder.config, **settings), encoder)
    path = encoder_path(model, source.encoder)
    if pretrained:
        _copy_weights(source, model, path)
    else:
        logger.info(f"All {len(model.state_dict())} weights of {type(model).__name__} are new.")
    return model


def encoder_path(model: nn.Module, encoder: nn.Module) -> str:
    """Name of the model's sub-module that has the class of the encoder.

    Raises:
        ValueError: there is none.
    """
    path = next((name for name, module in model.named_modules() if type(module) is type(encoder)), None)
    if path is None:
        raise ValueError(f"{type(model).__name__} holds no {type(encoder).__name__}.")
    return path


def new_encoder_of(encoder: PreTrainedModel, config: Any) -> PreTrainedModel:
    """A new encoder of the same class, from this configuration."""
    return type(encoder)._from_config(config)


def _with_head_of_transformers(
    encoder: PreTrainedModel, auto_class: Any, config: Any, settings: dict[str, Any]
) -> PreTrainedModel | None:
    """A model of `auto_class`; None if it has none for this type, or one that does not read this encoder alone.

    The latter is the case for encoder-decoders, whose heads read the decoder, which has not been pre-trained.
    """
    if auto_class is None or type(config) not in auto_class._model_mapping or type(config) is Data2VecGenericConfig:
        return None
    config = copy.deepcopy(config)
    config.architectures = config.architectures or []  # DeiT has two heads, and choosing one fails with None here
    for name, value in settings.items():
        setattr(config, name, value)
    with as_value_error(
        f"{auto_class.__name__} can't be made of this {config.model_type} configuration",
        "Choose an encoder of another type or size.",
    ):
        model = auto_class.from_config(config)
    encoders = [module for module in model.modules() if type(module) is type(encoder)]
    reads_decoder = type(config).is_encoder_decoder and any(
        name.split(".")[-1] == "decoder" for name, _ in model.named_modules()
    )
    return model if len(encoders) == 1 and not reads_decoder else None


def _types_with(auto_class: Any) -> list[str]:
    return sorted(config.model_type for config in auto_class._model_mapping)


def _copy_weights(source: Source, model: PreTrainedModel, path: str) -> None:
    """Load the weights of the source into the sub-module at `path` and log which were loaded, new and left out."""
    own = source.encoder.state_dict()
    target = model.get_submodule(path)
    places = target.state_dict()
    fitting = {name: value for name, value in own.items() if name in places and places[name].shape == value.shape}
    loaded = fitting.keys() - source.missing
    if not loaded:
        raise ValueError(
            f"No weight of the {type(source.encoder).__name__} has a place in {type(model).__name__}: it holds "
            f"{_listed(set(own))}, and {_listed(set(places))} are expected."
        )
    target.load_state_dict(fitting, strict=False)
    prefix = f"{path}." if path else ""
    new = set(model.state_dict()) - {prefix + name for name in loaded}
    left_out = (own.keys() - fitting.keys() - source.missing) | source.unused
    logger.info(
        f"{type(model).__name__}: {len(loaded)} weights are loaded into {path or 'it'}; {len(new)} are new "
        f"({_listed(new)}); {len(left_out)} of the source were left out ({_listed(left_out)})."
    )


def _listed(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_MOST_NAMED]) or "none"
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


__all__ = ["Source", "build_model", "encoder_path", "load_source"]
