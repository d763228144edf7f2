"""The encoder that is exported: student or teacher of a pre-training run, or any plain encoder."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModel, PreTrainedModel

from ..configuration_data2vec_generic import Data2VecGenericConfig
from ..errors import as_value_error
from ..modeling_data2vec_generic import Data2VecGenericForPreTraining, Data2VecGenericModel
from ..remote_code_data2vec_generic import require_safetensors
from ..training.encoders import require_fitting_weights

WEIGHTS = ("student", "teacher")

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")  # of a Hub repository


def folder_of(model: str) -> Path:
    """The folder of a model: itself, or where its repository of the Hub is downloaded to.

    Raises:
        ValueError: there is neither.
    """
    if Path(model).is_dir():
        return Path(model)
    with as_value_error(f"{model!r} is not a folder, and cannot be loaded from the Hub", "Check its name."):
        return Path(snapshot_download(model, allow_patterns=[*_FILES]))


def load(folder: Path, weights: str, trust_remote_code: bool) -> PreTrainedModel:
    """The encoder, in evaluation mode and with weights of the type that they were saved in.

    Args:
        folder: of a pre-training run (the output directory or a `checkpoint-N`), or of a plain encoder.
        weights: "student" or "teacher" of a pre-training run. A plain encoder is the student.
        trust_remote_code: whether the code of an encoder that is not in transformers may be run.

    Raises:
        ValueError: `weights` is neither, the folder has no such encoder, or it can't be loaded.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r} is not one of {', '.join(WEIGHTS)}.")
    require_safetensors(folder)
    how: dict[str, Any] = {"dtype": "auto", "trust_remote_code": trust_remote_code}
    with as_value_error(
        f"{str(folder)!r} cannot be loaded as an encoder",
        "Check that it has a config.json and model.safetensors that belong together.",
    ):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        has_teacher = isinstance(config, Data2VecGenericConfig) and config.architectures == [
            Data2VecGenericForPreTraining.__name__
        ]
        if weights == "teacher" and has_teacher:
            model: PreTrainedModel = Data2VecGenericForPreTraining.from_pretrained(
                folder, use_safetensors=True, **how
            ).teacher
        elif weights == "student":
            model, info = AutoModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **how)
    if weights == "teacher" and not has_teacher:
        raise ValueError(
            f"{str(folder)!r} has no teacher: it holds {config.architectures or 'another model'}. Name the output "
            "directory of a pre-training run, or a checkpoint-N in it, or leave out --weights teacher."
        )
    if weights == "student":
        require_fitting_weights(repr(str(folder)), model, info["missing_keys"], info["unexpected_keys"])
    return (model.encoder if isinstance(model, Data2VecGenericModel) else model).eval()
