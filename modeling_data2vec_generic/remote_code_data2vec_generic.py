"""Which code loading a checkpoint may run: that of its encoder if `trust_remote_code` allows it, and never a pickle.

If the classes of an encoder are not in transformers, their code is saved beside the weights. transformers does this
for a model, but not for an encoder within a model, which is what this file adds.
"""

import os
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module

# Arguments of `from_pretrained` that say where files come from.
SOURCE_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")


def encoder_config_of(fields: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of an encoder from its fields, which a class of transformers or of the caller's code has.

    If no class is known before the code of the checkpoint has been run, the fields are held by a class of their own.

    Raises:
        ValueError: there is no `model_type`, or one that no class is known of, and no code was saved with it.
    """
    if "model_type" not in fields:
        raise ValueError(f"encoder_config has no model_type, only {sorted(fields)}: add the type of the encoder.")
    if fields["model_type"] in CONFIG_MAPPING:
        return CONFIG_MAPPING[fields["model_type"]](**fields)
    if "AutoConfig" not in fields.get("auto_map", {}):
        raise ValueError(
            f"encoder_config has model_type={fields['model_type']!r}, which transformers does not know, and its code "
            "was not saved with it. Import the module that defines it before you load this model, and let that module "
            "call AutoConfig.register and AutoModel.register for its two classes."
        )
    # The model type is an attribute of the class, so each type needs a class of its own.
    return type("UnknownEncoderConfig", (PreTrainedConfig,), {"model_type": fields["model_type"]})(**fields)


def encoder_from_config(config: Any, source: str | None) -> PreTrainedModel:
    """Make a new encoder with `AutoModel.from_config`.

    Args:
        config: of the encoder.
        source: name of the checkpoint that the configuration came from, for the message; `None` if there is none.

    Raises:
        ValueError: the class of the configuration is not known, because its code has not been run.
    """
    if type(config) not in MODEL_MAPPING and getattr(config, "auto_map", None):
        raise ValueError(
            f"The encoder of {source or 'this model'} has model_type={config.model_type!r}, which transformers does "
            "not know; its code is in Python files beside the weights. Read them, and if you trust them, load the "
            "model with from_pretrained(..., trust_remote_code=True)."
        )
    return AutoModel.from_config(config)


def with_encoder_code(config_class: Any, folder: str | os.PathLike, arguments: dict[str, Any]) -> dict[str, Any]:
    """Load the code of the encoder and put an encoder configuration of its class into arguments of `from_pretrained`.

    Args:
        config_class: class of the model's configuration, which has the field `encoder_config`.
        folder: folder or Hub id of the model, where the code is.
        arguments: of `from_pretrained`, `trust_remote_code=True` included. If they hold a configuration object, its
            `encoder_config` is replaced.

    Returns:
        The arguments for `from_pretrained`.
    """
    source = {name: arguments[name] for name in SOURCE_ARGUMENTS if name in arguments}
    config = arguments.get("config")
    if isinstance(config, PreTrainedConfig):
        config.encoder_config = _in_own_class(config.encoder_config, folder, source)
        return arguments
    config = config_class.from_pretrained(config or folder, subfolder=arguments.get("subfolder", ""), **source)
    return {"encoder_config": _in_own_class(config.encoder_config, folder, source)} | arguments


def _in_own_class(encoder_config: Any, folder: str | os.PathLike, source: dict[str, Any]) -> Any:
    """Load the classes of an encoder, register them with `AutoModel`, and return its configuration in its own class.

    A configuration without saved code, or whose class is already known to `AutoModel`, is returned as it is.
    """
    auto_map = getattr(encoder_config, "auto_map", None) or {}
    known = type(encoder_config) in MODEL_MAPPING and not type(encoder_config).__module__.startswith("transformers.")
    if known or not {"AutoConfig", "AutoModel"} <= set(auto_map):
        return encoder_config
    config_class: Any = get_class_from_dynamic_module(auto_map["AutoConfig"], folder, **source)
    model_class: Any = get_class_from_dynamic_module(auto_map["AutoModel"], folder, **source)
    config_class.register_for_auto_class("AutoConfig")  # so that it is saved with its code again
    model_class.register_for_auto_class("AutoModel")
    AutoModel.register(config_class, model_class, exist_ok=True)
    return config_class.from_dict(encoder_config.to_dict())


def save_encoder_code(encoder: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Copy the code of an encoder's two classes to a folder if they are registered by `register_for_auto_class`."""
    config: Any = encoder.config
    if encoder._auto_class is None:
        vars(config).pop("auto_map", None)  # it may name code of the original checkpoint, which was not used
        return
    os.makedirs(folder, exist_ok=True)
    for part in (encoder, config):
        if part._auto_class is not None:
            custom_object_save(part, folder, config=config)


def require_safetensors(folder: str | os.PathLike) -> None:
    """Check that a local folder does not hold its weights as pickles only; any other name passes.

    Raises:
        ValueError: it does; the message says how to convert them.
    """
    pickles = [name for name in PICKLES if os.path.isfile(os.path.join(folder, name))]
    if pickles and not any(os.path.isfile(os.path.join(folder, name)) for name in SAFETENSORS):
        raise ValueError(
            f"{os.fspath(folder)!r} holds its weights as {pickles[0]}, a pickle, which is not read because a pickle "
            "can run any code. model.safetensors is expected. If you trust its source, convert it once: "
            "AutoModel.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW_FOLDER)."
        )


__all__ = [
    "encoder_config_of",
    "encoder_from_config",
    "require_safetensors",
    "save_encoder_code",
    "with_encoder_code",
]
