"""The survey of one type: a small encoder of it is built and measured."""

import difflib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedModel

from ..backbone_data2vec_generic import masked_content
from ..documents_data2vec_generic import document_fault
from ..float32_copy_data2vec_generic import float32_copy
from ..geometry_data2vec_generic import grid_of, patch_sides
from ..inputs_data2vec_generic import main_input
from ..layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, find_layout
from ..measurements_data2vec_generic import (
    BackboneMeasurements,
    encode,
    evaluation_mode,
    made_up_sample,
    measure,
    visible_only_fault,
)
from .encoder_types import SETTINGS
from .small_encoders import small_encoder


@dataclass(frozen=True)
class Capability:
    """What was found out about one encoder type.

    Args:
        model_type: the name in transformers' CONFIG_MAPPING.
        reads: the encoder's main input.
        layout: where data2vec reaches into it; `None` if nothing was found.
        measurements: how it behaved; `None` if it could not be measured.
        mask_token, visible: whether `student_input` may be set to this; `None` where only real data can tell.
        reason: why one of the two may not; empty if both may.
        packing: whether documents may share a sequence without seeing each other; `None` where only real data can
            tell, and for encoders that read no tokens.
        packing_reason: why they may not; empty if they may.
    """

    model_type: str
    reads: str = ""
    layout: BackboneLayout | None = None
    measurements: BackboneMeasurements | None = None
    mask_token: bool | None = False
    visible: bool | None = False
    reason: str = ""
    packing: bool | None = None
    packing_reason: str = ""


def capability_of(model_type: str) -> Capability:
    """Build a small encoder of a type, with random weights, and measure it.

    Raises:
        ValueError: transformers has no such type with a model for AutoModel.
    """
    if model_type not in CONFIG_MAPPING or CONFIG_MAPPING[model_type] not in MODEL_MAPPING:
        close = difflib.get_close_matches(model_type, [*SETTINGS, *CONFIG_MAPPING], n=3)
        raise ValueError(
            f"{model_type!r} is not a model type that AutoModel knows. "
            + (f"Did you mean {' or '.join(dict.fromkeys(close))}? " if close else "")
            + "Without a type, the whole table is printed."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            encoder = small_encoder(model_type)
        except Exception as error:  # whatever a configuration or an encoder of unknown kind raises
            return Capability(model_type, reason=f"no small encoder of it could be built ({_first_line(error)})")
        return _measured(model_type, encoder)


def _measured(model_type: str, encoder: PreTrainedModel) -> Capability:
    reads = main_input(encoder)
    try:
        layout = find_layout(encoder)
    except UnsupportedBackboneError as error:
        return Capability(model_type, reads, reason=_without_name(error, encoder))
    encoder_copy = float32_copy(encoder)
    inputs = made_up_sample(encoder, layout, encoder_copy)
    if inputs is None:
        reason = f"no sample of {reads} alone could be made up that it reads"
        return Capability(model_type, reads, layout, mask_token=None, visible=None, reason=reason)
    try:
        measurements = measure(encoder, layout, inputs, encoder_copy)
    except UnsupportedBackboneError as error:
        return Capability(model_type, reads, layout, reason=_without_name(error, encoder))
    if _shows_masked_content(encoder, layout, measurements, inputs):
        reason = "what it makes of a sample that is masked throughout still depends on the sample"
        return Capability(model_type, reads, layout, measurements, reason=reason)
    fault = visible_only_fault(encoder, layout, measurements, inputs, encoder_copy)
    packing: dict[str, Any] = {}
    if reads == "input_ids":
        together = document_fault(encoder, layout, measurements, inputs, encoder_copy)
        packing = {"packing": together is None, "packing_reason": together or ""}
    return Capability(
        model_type,
        reads,
        layout,
        measurements,
        mask_token=True,
        visible=fault is None,
        reason=fault or "",
        **packing,
    )


@torch.no_grad()
def _shows_masked_content(
    encoder: PreTrainedModel, layout: BackboneLayout, measurements: BackboneMeasurements, inputs: dict[str, Tensor]
) -> bool:
    """Whether two samples that are masked at every position are told apart."""
    (name, values), *_ = inputs.items()
    mask = torch.ones(1, measurements.length, dtype=torch.bool)
    grid = grid_of(values.shape, measurements.length, patch_sides(encoder.config)) if layout.hierarchical else None
    outputs = []
    with evaluation_mode(encoder):
        for sample in (values, values.flip(-1)):
            with masked_content(encoder, layout, mask, None, stride=measurements.stride, grid=grid):
                given = inputs | {name: sample}
                outputs.append(encode(encoder, layout, given, measurements.length, measurements.takes_last_block))
    return not torch.equal(*outputs)


def _without_name(error: Exception, encoder: PreTrainedModel) -> str:
    return "it " + str(error).removeprefix(describe(encoder)).strip()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
