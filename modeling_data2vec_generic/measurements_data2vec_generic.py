"""Measurements of an encoder: what a few forward passes on one sample show and its modules alone do not.

Shapes: n positions at the content module, T content positions of the blocks, L = prefix tokens + T, V visible
positions, C channels.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from .backbone_data2vec_generic import as_sequence, content_of, first, hooked, recorded_layers, visible_only
from .float32_copy_data2vec_generic import exact_arithmetic, float32_copy
from .inputs_data2vec_generic import all_inputs, first_sample, made_up_inputs, main_input, repeated
from .layout_data2vec_generic import (
    BackboneLayout,
    UnsupportedBackboneError,
    describe,
    explained,
    is_within,
    naming_parts,
)
from .shared_content_data2vec_generic import find_content_modules

logger = logging.get_logger(__name__)

# Part of the names of weights that only some samples use, in a mixture of experts.
ROUTED = "experts"
# Two outputs are equal if they differ by at most this fraction of the largest value.
TOLERANCE = 1e-4
# Two runs of the same float32 operations may use different algorithms and differ by this fraction of the largest
# value.
ROUNDING = 1e-5


@dataclass(frozen=True)
class BackboneMeasurements:
    """What a few forward passes of an encoder showed.

    Args:
        length: T, content positions of the sample that was measured.
        prefix: number of tokens in front of the content, such as CLS and registers.
        stride: positions at the content module per content position of the blocks; on images, along each side.
        mixes_neighbours: whether something between the content module and the first block, such as a positional
            convolution, lets a position see its neighbours.
        takes_last_block: whether the encoding is the last block's output instead of the encoder's own, because the
            modules after the blocks change its shape.
        entry: name of the first module that reads the raw input: the content module, or a module whose output leads
            to it.
        embeddings: names of the modules that run before the first block, up to the content module and around it.
        unused: names of parameters that the encoding does not depend on. They have no gradient, for which
            DistributedDataParallel would wait.
        num_layers: number of blocks that ran. A block that runs several times counts each time.
        content_modules: names of the modules that make the content of the raw input, in the order in which they run,
            if they return the same in training mode as in evaluation mode and draw no random numbers; else empty.
    """

    length: int
    prefix: int
    stride: int
    mixes_neighbours: bool
    takes_last_block: bool
    entry: str
    embeddings: frozenset[str]
    unused: frozenset[str]
    num_layers: int
    content_modules: tuple[str, ...]

    def embeds(self, parameter: str) -> bool:
        """Whether a parameter belongs to the embeddings, to which `teacher_embeddings` applies."""
        return is_within(parameter, tuple(self.embeddings))


def encode(
    encoder: nn.Module, layout: BackboneLayout, inputs: Mapping[str, Any], length: int, takes_last_block: bool
) -> Tensor:
    """Run the encoder and return its last hidden state, (B, L, C).

    Args:
        layout: of the encoder.
        inputs: the main input and others that `forward` takes.
        length: T, content positions of the inputs.
        takes_last_block: see `BackboneMeasurements`.
    """
    inputs = all_inputs(layout, inputs, length)
    if not takes_last_block:
        return as_sequence(first(encoder(**inputs)), layout.quirks.channels_first)
    with recorded_layers(encoder, layout, "block") as layers:
        encoder(**inputs)
    return layers[-1]


def made_up_sample(
    encoder: PreTrainedModel, layout: BackboneLayout, encoder_copy: PreTrainedModel | None = None
) -> dict[str, Tensor] | None:
    """Make up one sample that the encoder can read: its main input, in float32 or as tokens.

    Args:
        encoder, layout, encoder_copy: see `measure`. The sample is tried on the copy.

    Returns:
        The main input by its name; `None` if the encoder's configuration does not describe it, or if the encoder
        needs other inputs as well.

    Raises:
        ValueError: a weight holds NaN or infinity.
    """
    inputs = made_up_inputs(encoder)
    if inputs is None:
        return None
    encoder_copy = encoder_copy or float32_copy(encoder)
    try:
        with measuring(encoder_copy):
            encoder_copy(**all_inputs(layout, inputs, 0) if layout.quirks.ordered_input is None else inputs)
    except Exception as error:  # the code of an unknown encoder may raise anything
        logger.info(f"{describe(encoder)} can't read a made-up sample, so the first batch is measured: {error}")
        return None
    return inputs


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and then each one back in the mode that it was in.

    `model.train()` would not do, because some modules may have been in evaluation mode before.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode; when the context ends, the state of torch's random number generators is restored as well."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), evaluation_mode(model):
        yield


@contextmanager
def measuring(encoder_copy: PreTrainedModel) -> Iterator[None]:
    """Exact float32 arithmetic, evaluation mode, no gradients, and no change of the random number generators."""
    with exact_arithmetic(encoder_copy.device.type), undisturbed(encoder_copy), torch.no_grad():
        yield


def measure(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    inputs: Mapping[str, Any],
    encoder_copy: PreTrainedModel | None = None,
) -> BackboneMeasurements:
    """Run a float32 copy of an encoder on one sample of a batch and record what happens.

    Args:
        encoder: it is not changed.
        layout: of the encoder.
        inputs: a batch, from which the first sample without NaN and infinity is taken.
        encoder_copy: a float32 copy of the encoder; by default one is made. An `EncoderTemplate` makes the copy of an
            encoder that has been compiled or sharded.

    Raises:
        UnsupportedBackboneError: the encoder does not run on these inputs, none of its blocks runs, the batch is not
            the first axis, or the content does not stay in order.
        ValueError: a weight or the sample holds NaN or infinity.
    """
    with naming_parts(encoder):
        return _measure_copy(encoder_copy or float32_copy(encoder), layout, first_sample(inputs))


def _measure_copy(encoder: PreTrainedModel, layout: BackboneLayout, sample: dict[str, Any]) -> BackboneMeasurements:
    with measuring(encoder):
        content, _ = _first_block(encoder, layout, sample)
        positions = content.shape[1]
        if layout.reads_tokens:  # some encoders pad their tokens to a multiple of a window
            positions = min(positions, sample[main_input(encoder)].shape[1])
        started, ended, layers, output = _timed_pass(
            encoder, layout, all_inputs(layout, repeated(sample, 2), positions)
        )
        if len(content) != 1 or len(layers[0]) != 2:
            raise UnsupportedBackboneError(
                f"{describe(encoder)} does not keep samples apart. (batch, positions, channels) is expected, but it "
                f"embeds one sample as {tuple(content.shape)}, and its first block returns {tuple(layers[0].shape)} "
                "for two samples."
            )
        if len({layer.shape for layer in layers}) > 1:
            raise UnsupportedBackboneError(
                f"{describe(encoder)} has blocks that return different shapes: {[*map(_shape, layers)]}. If a setting "
                "shortens the sequence between blocks, turn it off."
            )
        given = all_inputs(layout, sample, positions)
        length, prefix, stride, mixes = _placement(encoder, layout, given, positions, layers[0].shape[1])
    last = layers[-1]
    keeps_positions = output.ndim == 3 and prefix + length <= output.shape[1] <= last.shape[1]
    takes_last_block = not keeps_positions or output.shape[2] != last.shape[2]
    with measuring(encoder):
        unused = _unused(encoder, layout, given, length, takes_last_block)
        content_modules = find_content_modules(encoder, layout, given, content, started, ended)
    first_block = min(started[name] for name in layout.stacks if name in started)
    return BackboneMeasurements(
        length=length,
        prefix=prefix,
        stride=stride,
        mixes_neighbours=mixes,
        takes_last_block=takes_last_block,
        entry=next(
            name for name in sorted(started, key=started.__getitem__) if not layout.content.startswith(f"{name}.")
        ),
        # A positional convolution starts after the content module has ended and is left out. Position embeddings and
        # their norm belong to a module that contains the content module, and are included.
        embeddings=frozenset(
            name for name, end in ended.items() if end < first_block and started[name] < ended[layout.content]
        ),
        unused=unused,
        num_layers=len(layers),
        content_modules=content_modules,
    )


def _timed_pass(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: dict[str, Any]
) -> tuple[dict[str, int], dict[str, int], list[Tensor], Tensor]:
    """Run one forward pass and note the order in which modules start and end.

    Returns:
        started, ended: for each module that ran, by name, when it started and ended for the first time. Times are
            whole numbers that count these events.
        layers: the output of each block, (B, L, C).
        output: the encoder's output, (B, L, C) or, if it is one vector per sample, (B, C).
    """
    started: dict[str, int] = {}
    ended: dict[str, int] = {}
    clock = iter(range(1 << 60))
    with ExitStack() as stack:
        layers = stack.enter_context(recorded_layers(encoder, layout, "block"))
        for name, module in encoder.named_modules():
            if name:
                for register, times in (
                    (module.register_forward_pre_hook, started),
                    (module.register_forward_hook, ended),
                ):
                    hook = lambda *_, times=times, name=name: _once(times, name, clock)  # noqa: E731
                    stack.enter_context(hooked(register, hook))
        with explained(encoder, inputs):
            output = as_sequence(first(encoder(**inputs)), layout.quirks.channels_first)
    if not layers:
        raise _no_block_ran(encoder, layout)
    return started, ended, layers, output


def _shapes(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shape(value)}" for name, value in inputs.items() if isinstance(value, Tensor))


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _once(times: dict[str, int], name: str, clock: Iterator[int]) -> None:
    times.setdefault(name, next(clock))


def _no_block_ran(encoder: PreTrainedModel, layout: BackboneLayout) -> UnsupportedBackboneError:
    return UnsupportedBackboneError(
        f"{describe(encoder)} did not call {layout.blocks[0]} in its forward pass, which by its structure is the "
        "first of its blocks, so their outputs can't be recorded."
    )


class _Reached(BaseException):
    """Ends a forward pass at the first block and carries the block's input.

    It is not an `Exception`, so that no `except Exception` in the encoder's code catches it.
    """


def _first_block(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: Mapping[str, Any], changed: int | None = None
) -> tuple[Tensor, Tensor]:
    """The output of the content module, (1, n, E), and the input of the first block, (1, L, C), for one sample.

    Args:
        changed: a position at the content module to whose content noise is added; `None` for none.
    """
    contents: list[Tensor] = []

    def change(module: nn.Module, args: Any, output: Any) -> Any:
        content, put_back = content_of(module, output)
        contents.append(content)
        if changed is None or len(contents) > 1:
            return output
        content = content.clone()
        noise = torch.randn(content.shape[-1], generator=torch.Generator().manual_seed(changed))
        content[:, changed] += noise.to(content) * content.std().clamp(min=1e-3)
        return put_back(content)

    def stop(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Reached(args[0] if args else kwargs[next(iter(inspect.signature(block.forward).parameters))])

    with ExitStack() as stack:
        stack.enter_context(hooked(encoder.get_submodule(layout.content).register_forward_hook, change))
        for name in layout.stacks:
            stack.enter_context(hooked(encoder.get_submodule(name).register_forward_pre_hook, stop, with_kwargs=True))
        try:
            with explained(encoder, inputs):
                encoder(**inputs)
        except _Reached as reached:
            if not contents:
                raise UnsupportedBackboneError(
                    f"{describe(encoder)} reached its first block without a call of {layout.content}, which by its "
                    "structure embeds its content."
                ) from None
            return contents[0], as_sequence(reached.args[0], layout.quirks.channels_first)
    raise _no_block_ran(encoder, layout)


def _placement(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: Mapping[str, Any], positions: int, block_length: int
) -> tuple[int, int, int, bool]:
    """Where the content positions lie in the input of the first block, found by changing some of them.

    A change of position j at the content module must reach position prefix + j // stride of the first block. If it
    reaches others too, neighbours are mixed on the way.

    Args:
        positions: n, positions at the content module.
        block_length: L, positions that the blocks return.

    Returns:
        `length`, `prefix`, `stride` and `mixes_neighbours` of `BackboneMeasurements`.

    Raises:
        UnsupportedBackboneError: a change does not reach its position.
        ValueError: the input of the first block holds NaN or infinity.
    """
    if layout.hierarchical:
        stride = round((positions / block_length) ** 0.5)
        if stride**2 * block_length != positions:
            raise UnsupportedBackboneError(
                f"{describe(encoder)} embeds {positions} positions and its last stage has {block_length}. Data2vec "
                "needs a ratio that is a square number, so that a position of the last stage covers the same number "
                "of positions along each side of an image."
            )
        return block_length, 0, stride, False
    stride = max(positions // block_length, 1)
    length = positions // stride
    _, plain = _first_block(encoder, layout, inputs)
    if not plain.isfinite().all():
        raise ValueError(
            f"{describe(encoder)} gives its first block NaN or infinity, though no weight of it holds any. Check that "
            f"the sample, {_shapes(inputs)}, holds neither of them and is normalised."
        )
    rounding = ROUNDING * plain.abs().max()
    probed = sorted({0, positions // 2, length * stride - 1})
    reached = []
    for position in probed:
        _, changed = _first_block(encoder, layout, inputs, changed=position)
        distance = (changed - plain).abs().amax(-1)[0]
        reached.append(set((distance > rounding).nonzero().flatten().tolist()))
    known = layout.quirks.prefix
    for prefix in range(block_length - length + 1) if known is None else (known,):
        if all(prefix + position // stride in rows for position, rows in zip(probed, reached, strict=True)):
            return length, prefix, stride, max(map(len, reached)) > 1
    raise UnsupportedBackboneError(
        f"{describe(encoder)} does not keep its content in order: a change at positions {probed} of {positions} "
        f"reaches rows {[sorted(rows)[:3] for rows in reached]} of {block_length} at its first block."
    )


def _unused(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: Mapping[str, Any], length: int, takes_last_block: bool
) -> frozenset[str]:
    trainable = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    if not trainable:
        return frozenset()
    with torch.enable_grad(), explained(encoder, inputs):
        output = encode(encoder, layout, inputs, length, takes_last_block)
        if not output.requires_grad:
            raise UnsupportedBackboneError(
                f"{describe(encoder)} makes no gradients in evaluation mode, so it can't be found out which of its "
                "weights are trained."
            )
        gradients = torch.autograd.grad(output.float().sum(), list(trainable.values()), allow_unused=True)
    used = {name for name, gradient in zip(trainable, gradients, strict=True) if isinstance(gradient, Tensor)}
    return frozenset(name for name in trainable.keys() - used if name != layout.mask_parameter and ROUTED not in name)


def visible_only_fault(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    encoder_copy: PreTrainedModel | None = None,
) -> str | None:
    """Test on one sample whether the blocks can run on visible positions alone (`visible_only`).

    They can if the encoding of a position depends on the content and the place of all positions, and neither on their
    order nor on their number. Three passes test this: all positions must give the output of a plain pass, shuffled
    positions the same output in the shuffled order, and, in an encoder without prefix tokens, positions that are given
    twice the same output as if they were given once.

    Args:
        encoder, layout, inputs, encoder_copy: see `measure`. The copy is tested.
        measurements: what `measure` returned, with the `length` of these inputs.

    Returns:
        `None` if they can, else the reason why not, as a part of a sentence.

    Raises:
        ValueError: a weight holds NaN or infinity.
    """
    if layout.hierarchical:
        return "it works in stages that merge neighbouring positions"
    encoder = encoder_copy or float32_copy(encoder)
    sample = first_sample(inputs)
    if layout.reads_tokens and "attention_mask" in inspect.signature(encoder.forward).parameters:
        sample = {"attention_mask": torch.ones_like(sample[main_input(encoder)]), **sample}
    prefix, length, device = measurements.prefix, measurements.length, encoder.device

    def run(*rows: Tensor) -> Tensor:
        samples = torch.zeros(len(rows), dtype=torch.long, device=device)
        with visible_only(encoder, layout, torch.stack(rows), samples, prefix, length):
            return encode(encoder, layout, sample, length, takes_last_block=True)

    everything = torch.arange(prefix + length, device=device)
    content = everything[prefix:][::2]
    order = torch.cat([content[1::2], content[::2]]).flip(0)
    some, shuffled = (torch.cat([everything[:prefix], rows]) for rows in (content, order))
    with measuring(encoder):
        try:
            plain = encode(encoder, layout, sample, length, takes_last_block=True)
            if not plain.isfinite().any():
                return "its blocks return only NaN or infinity"
            if differ(run(everything), plain[:, : prefix + length]):
                return "given all positions in order, its blocks return something else than in a plain pass"
            expected, moved = run(some, shuffled)
            if differ(moved[torch.argsort(shuffled)], expected):
                return "its blocks take a position's place from where it stands among the visible ones"
            if prefix == 0 and differ(run(some.repeat(2))[0, : len(some)], expected):
                return "what its blocks make of a position depends on how many positions there are"
        except torch.OutOfMemoryError:  # it says nothing about the encoder
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            return f"its blocks do not run on a part of the positions ({type(error).__name__}: {error})"
    return None


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs differ by more than rounding. NaN, which may occur at padding, is equal to NaN."""
    if one.shape != other.shape:
        return True
    largest = float(other.abs().nan_to_num(posinf=0.0).max())
    return not torch.allclose(one, other, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True)


def require_visible_only(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    encoder_copy: PreTrainedModel | None = None,
) -> None:
    """Raise an `UnsupportedBackboneError` if the blocks can't run on visible positions alone.

    Arguments and other errors are those of `visible_only_fault`.
    """
    fault = visible_only_fault(encoder, layout, measurements, inputs, encoder_copy)
    if fault is not None:
        raise UnsupportedBackboneError(
            f"student_input='visible' is not possible with {describe(encoder)}: {fault}. Set "
            "student_input='mask_token': masked positions then hold a mask embedding, and every block runs on all "
            "positions, so that each mask costs about as much as a whole sample. Nothing else of data2vec 2.0 changes."
        )


__all__ = [
    "BackboneMeasurements",
    "differ",
    "encode",
    "evaluation_mode",
    "made_up_sample",
    "measure",
    "measuring",
    "require_visible_only",
    "visible_only_fault",
]
