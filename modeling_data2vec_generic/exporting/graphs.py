"""Graphs of an encoder that run without its code: ONNX files and programs of torch.export.

Both compute `last_hidden_state` in float32. The number of samples is free, and so is the length of texts and
waveforms. What has been written is read again, and its outputs are compared with those of the encoder.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import as_value_error
from ..inputs_data2vec_generic import made_up_inputs, main_input
from ..modeling_data2vec_generic import encoder_of
from ..quirks_data2vec_generic import quirks_of

OUTPUT = "last_hidden_state"
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4  # differences that come from sums in another order
_LARGEST_ONNX = 2**31 - 2**20  # bytes; weights beyond it go to a second file, model.onnx.data
_OF_ANY_LENGTH = ("input_ids", "input_values")


class _HiddenStates(nn.Module):
    """An encoder whose inputs are in the order of their names, and whose output is the tensor alone."""

    def __init__(self, encoder: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, names
        self.constants = dict(quirks_of(encoder.config.model_type).inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        hidden: Tensor = self.encoder(**self.constants, **given).last_hidden_state
        return hidden


def write_program(model: PreTrainedModel, path: Path) -> list[str]:
    """Write `torch.export`'s program. Its module takes the inputs in the order that is returned.

    Raises:
        ValueError: the encoder can't be traced, or the program computes something else.
    """
    encoder, inputs, others, shapes = _prepared(model)
    with _traced(encoder):
        program = torch.export.export(encoder, tuple(inputs.values()), dynamic_shapes=(shapes,), strict=False)
        torch.export.save(program, path)
        module = torch.export.load(path).module()
        _compare(encoder, lambda given: module(*given.values()), inputs, others)
    return [*inputs]


def write_onnx(model: PreTrainedModel, path: Path) -> list[str]:
    """Write an ONNX file, whose inputs have the names that are returned; its output is `last_hidden_state`.

    Its outputs are compared where onnxruntime is installed.

    Raises:
        ValueError: a package is missing, the encoder can't be traced, or the file computes something else.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"ONNX files are written by {' and '.join(missing)}, which is not installed. Run `pip install "
            '"modeling_data2vec_generic[export]"`, or choose --format torch.'
        )
    encoder, inputs, others, shapes = _prepared(model)
    with _traced(encoder):
        torch.onnx.export(
            encoder,
            tuple(inputs.values()),
            path,
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=[*inputs],
            output_names=[OUTPUT],
            external_data=4 * model.num_parameters() >= _LARGEST_ONNX,
            verbose=False,
        )
        if find_spec("onnxruntime") is not None:
            _compare(encoder, _onnx_session(path), inputs, others)
    return [*inputs]


def _onnx_session(path: Path) -> Callable[[Mapping[str, Tensor]], Tensor]:
    import onnxruntime  # an optional dependency

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        (output,) = session.run([OUTPUT], {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(output)

    return run


def _prepared(model: PreTrainedModel) -> tuple[Any, dict[str, Tensor], dict[str, Tensor], tuple[Any, ...]]:
    """The encoder as a graph takes it, inputs of two samples, others of three (longer ones, where the length is free),
    and which of the dimensions are free.

    Raises:
        ValueError: the configuration does not say what the inputs look like.
    """
    encoder = encoder_of(model).float().eval()
    quirks = quirks_of(encoder.config.model_type)
    sample = None if quirks.ordered_input is not None else made_up_inputs(encoder)
    if sample is None:
        raise ValueError(
            f"The configuration of this {encoder.config.model_type} encoder does not say what its inputs look like, "
            "which a graph is traced with. Choose --format transformers."
        )
    name = main_input(encoder)
    free = name in _OF_ANY_LENGTH
    masked = free and "attention_mask" in signature(encoder.forward).parameters
    inputs, others = ({name: _samples(sample[name], count, free)} for count in (2, 3))
    for given in (inputs, others) if masked else ():
        mask = torch.ones(given[name].shape, dtype=torch.long)
        mask[-1, mask.shape[1] * 3 // 4 :] = 0
        given["attention_mask"] = mask
    # Dimensions of the same name are equal.
    dimensions = {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if free else {})
    return _HiddenStates(encoder, [*inputs]).eval(), inputs, others, (dimensions,) * len(inputs)


def _samples(sample: Tensor, count: int, longer: bool) -> Tensor:
    """`count` different samples made of one: (1, ...) -> (count, ...); with `longer`, their length depends on it."""
    if longer:
        sample = torch.cat((sample, sample.flip(1)), dim=1)[:, : sample.shape[1] * (count + 2) // 4]
    return torch.cat([sample.roll(number, dims=-1) for number in range(count)])


def _traced(encoder: Any) -> Any:
    return as_value_error(
        f"No graph can be made of this {encoder.encoder.config.model_type} encoder",
        "Not every encoder can be traced: choose --format transformers.",
    )


@torch.no_grad()
def _compare(
    encoder: nn.Module,
    run: Callable[[Mapping[str, Tensor]], Tensor],
    inputs: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
) -> None:
    for given in (inputs, others):
        torch.testing.assert_close(run(given), encoder(*given.values()), rtol=_RELATIVE, atol=_ABSOLUTE)
