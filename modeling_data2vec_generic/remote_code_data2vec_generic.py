"""What loading a checkpoint may run: code that came with it, where `trust_remote_code` allows it, and never a pickle.

The code is that of encoders whose classes are not in transformers. It is saved beside the weights. transformers keeps
this convention for a model, but not for a model within a model.
"""

import os
from typing import Any

from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module

# What `from_pretrained` is told about where files come from.
SOURCE_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")


def unknown_encoder_config(fields: dict[str, Any]) -> PreTrainedConfig:
    """Holds the fields of a configuration whose class is known only once its code has been run.

    Raises:
        ValueError: no code came with it.
    """
    if "AutoConfig" not in fields.get("auto_map", {}):
        raise ValueError(
            f"encoder_config has model_type={fields['model_type']!r}, which transformers does not know, and its code "
            "was not saved with it. Import the module that defines it before you load this model, and let that module "
            "call AutoConfig.register and AutoModel.register for its two classes."
        )
    # A model type belongs to a class, not to its objects.
    return type("UnknownEncoderConfig", (PreTrainedConfig,), {"model_type": fields["model_type"]})(**fields)


def encoder_from_config(config: Any, source: str | None) -> PreTrainedModel:
    """What `AutoModel` makes of a configuration.

    Args:
        source: where the configuration came from, for the message.

    Raises:
        ValueError: its class is not known, since its code has not been run.
    """
    if type(config) not in MODEL_MAPPING and getattr(config, "auto_map", None):
        raise ValueError(
            f"The encoder of {source or 'this model'} has model_type={config.model_type!r}, which transformers does "
            "not know; its code lies in Python files beside the weights. Read them, and if you trust them load the "
            "model with from_pretrained(..., trust_remote_code=True)."
        )
    return AutoModel.from_config(config)


def with_encoder_code(config_class: Any, folder: str | os.PathLike, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a `from_pretrained`, with the encoder's configuration as an object of its own class.

    Args:
        config_class: class of the configuration whose `encoder_config` is meant.
        folder: folder or Hub id of the model, where the code lies.
        arguments: of `from_pretrained`, with `trust_remote_code=True` among them. A configuration among them is
            changed in place.
    """
    source = {name: arguments[name] for name in SOURCE_ARGUMENTS if name in arguments}
    config = arguments.get("config")
    if isinstance(config, PreTrainedConfig):
        config.encoder_config = _settled(config.encoder_config, folder, source)
        return arguments
    config = config_class.from_pretrained(config or folder, **source)
    return {"encoder_config": _settled(config.encoder_config, folder, source)} | arguments


def _settled(encoder_config: Any, folder: str | os.PathLike, source: dict[str, Any]) -> Any:
    """The configuration as an object of its own class; `AutoModel` gets to know the model's class, too.

    A configuration that came without code, or whose code runs already, is returned as it is.
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
    """Copy the files of an encoder's two classes, if they were registered with `register_for_auto_class`."""
    config: Any = encoder.config
    if encoder._auto_class is None:
        vars(config).pop("auto_map", None)  # of code that came with the checkpoint and was not used
        return
    os.makedirs(folder, exist_ok=True)
    for part in (encoder, config):
        if part._auto_class is not None:
            custom_object_save(part, folder, config=config)


def require_safetensors(folder: str | os.PathLike) -> None:
    """Raise ValueError, which says how to convert them, if a local folder holds its weights as pickles only."""
    pickles = [name for name in PICKLES if os.path.isfile(os.path.join(folder, name))]
    if pickles and not any(os.path.isfile(os.path.join(folder, name)) for name in SAFETENSORS):
        raise ValueError(
            f"{os.fspath(folder)!r} holds its weights as {pickles[0]}, a pickle, which is not read: one that was "
            "tampered with can run code. model.safetensors is expected. If you trust where it comes from, convert it "
            "once: AutoModel.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW_FOLDER)."
        )


__all__ = [
    "encoder_from_config",
    "require_safetensors",
    "save_encoder_code",
    "unknown_encoder_config",
    "with_encoder_code",
]
