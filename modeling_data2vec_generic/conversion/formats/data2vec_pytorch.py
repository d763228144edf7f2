"""data2vec-pytorch (github.com/arxyzan/data2vec-pytorch), whose encoders are already models of transformers.

A checkpoint holds the state dict of the encoder as `encoder`, and that of everything as `data2vec`: the encoder once
more and the regression head. Its configuration is not saved, but named in the YAML file that it was trained with.
"""

import re
from typing import Any

from ..checkpoints import tensors_of
from .base_format import Weights

TITLE = "data2vec-pytorch"
_LEFT_OUT = r"(.*\.)?(position_ids|token_type_ids|relative_position_index)"  # buffers that are computed anew
_OLD_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def is_data2vec_pytorch(checkpoint: dict[str, Any]) -> bool:
    """Whether this program wrote the checkpoint."""
    return isinstance(checkpoint.get("encoder"), dict) and bool(tensors_of(checkpoint["encoder"]))


def encoder_weights(checkpoint: dict[str, Any], weights: str) -> Weights:
    """The encoder's weights under the names that transformers has for them; `weights`: "student" or "teacher".

    Raises:
        ValueError: the teacher is asked for, and was not saved.
    """
    state = tensors_of(checkpoint["encoder"])
    if weights == "teacher":
        state = _under("ema", "teacher", of=checkpoint)
        if not state:
            raise ValueError(
                "--weights teacher: this checkpoint holds no weights of the teacher. data2vec-pytorch keeps its EMA "
                "apart from what it saves. Convert the student, with --weights student."
            )
    while all(name.startswith("encoder.") for name in state):  # wrappers around the model of transformers
        state = {name.removeprefix("encoder."): weight for name, weight in state.items()}
    return {_new_name(name): weight for name, weight in state.items() if not re.fullmatch(_LEFT_OUT, name)}


def _new_name(name: str) -> str:
    """The name that current versions of transformers have for a weight."""
    module, _, kind = name.rpartition(".")
    return f"{module}.{_OLD_NAMES[kind]}" if kind in _OLD_NAMES else name


def regression_head(checkpoint: dict[str, Any]) -> Weights:
    """The weights of the regression head, "0.weight" and so on; none if it was not saved."""
    return _under("regression_head", of=checkpoint) or _under("encoder.regression_head", of=checkpoint)


def _under(*modules: str, of: dict[str, Any]) -> Weights:
    """Weights of these modules of the whole model."""
    state = tensors_of(of.get("data2vec") or {})
    pattern = re.compile(rf"({'|'.join(map(re.escape, modules))})\.(model\.)?")
    return {name[match.end() :]: weight for name, weight in state.items() if (match := pattern.match(name))}
