"""Running an encoder a few times on one sample, to learn what its modules alone do not tell.

Shapes: n positions at the content module, T content positions of the blocks, L = prefix tokens + T, V visible
positions, C channels.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from .backbone_data2vec_generic import as_sequence, content_of, first, hooked, recorded_layers, visible_only
from .float32_copy_data2vec_generic import EncoderTemplate, exact_arithmetic
from .geometry_data2vec_generic import FrameCounter
from .layout_data2vec_generic import (
    BackboneLayout,
    UnsupportedBackboneError,
    describe,
    explained,
    is_within,
    naming_parts,
)

logger = logging.get_logger(__name__)

PROBE_POSITIONS = 12
# Some attention leaves out what it has no use for in a short text.
PROBE_TOKENS = 64
# Which weights of a mixture of experts a sample reaches depends on the sample.
ROUTED = "experts"
TOLERANCE = 1e-4
# Of the largest value, what two runs of the same float32 operations may differ by; they may use different algorithms.
ROUNDING = 1e-5


@dataclass(frozen=True)
class BackboneMeasurements:
    """What a few forward passes showed.

    Args:
        length: T of the sample that was looked at.
        prefix: tokens in front of the content, such as CLS and registers.
        stride: positions at the content module that lie below one content position of the blocks; on images along each
            side.
        mixes_neighbours: something between the content module and the first block, such as a positional convolution,
            lets a position see its neighbours.
        takes_last_block: what follows the blocks changes the shape, so the last block's output is the encoding.
        entry: the first module that works on the raw input; it leads to the content module or is the seam itself.
        embeddings: modules that make up what runs before the first block, up to and around the content module.
        unused: parameters that the encoding does not depend on. Without a gradient they would stall DDP.
        num_layers: blocks that ran; one that runs several times counts each time.
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

    def embeds(self, parameter: str) -> bool:
        """Whether a parameter belongs to the embeddings, in the sense of `teacher_embeddings`."""
        return is_within(parameter, tuple(self.embeddings))


def main_input(encoder: PreTrainedModel) -> str:
    """The name of what the encoder reads; own encoders may leave `main_input_name` at transformers' "input_ids"."""
    arguments = list(inspect.signature(encoder.forward).parameters)
    declared = getattr(encoder, "main_input_name", None)
    return next((name for name in (declared, "inputs_embeds") if name in arguments), arguments[0])


def all_inputs(layout: BackboneLayout, inputs: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Inputs with what the encoder's quirks asks for on top."""
    quirks = layout.quirks
    extra = dict(quirks.inputs)
    if quirks.ordered_input is not None and quirks.ordered_input not in inputs:
        main = next(value for value in inputs.values() if isinstance(value, Tensor))
        extra[quirks.ordered_input] = torch.arange(length, device=main.device, dtype=main.dtype).expand(len(main), -1)
    return {**extra, **inputs}


def encode(
    encoder: nn.Module, layout: BackboneLayout, inputs: Mapping[str, Any], length: int, takes_last_block: bool
) -> Tensor:
    """(B, L, C): what the encoder makes of its input."""
    inputs = all_inputs(layout, inputs, length)
    if not takes_last_block:
        return as_sequence(first(encoder(**inputs)), layout.quirks.channels_first)
    with recorded_layers(encoder, layout, "block") as layers:
        encoder(**inputs)
    return layers[-1]


def made_up_sample(
    encoder: PreTrainedModel, layout: BackboneLayout, template: EncoderTemplate | None = None
) -> dict[str, Tensor] | None:
    """A float32 sample such as the encoder's configuration describes; `None` if it does not say enough, or wants more.

    Args:
        encoder, layout, template: see `measure`.
    """
    inputs = _made_up_inputs(encoder)
    if inputs is None:
        return None
    encoder_copy = (template or EncoderTemplate(encoder)).float32_copy(encoder)
    try:
        with _experiment(encoder_copy):
            encoder_copy(**all_inputs(layout, inputs, 0) if layout.quirks.ordered_input is None else inputs)
    except Exception as error:  # whatever an encoder of unknown kind raises
        logger.info(f"{describe(encoder)} can't read a made-up sample, so the first batch is looked at: {error}")
        return None
    return inputs


def _made_up_inputs(encoder: PreTrainedModel) -> dict[str, Tensor] | None:
    name, config = main_input(encoder), encoder.config
    generator = torch.Generator().manual_seed(0)
    try:
        shape = _PROBE_SHAPES[name](config)
    except (KeyError, AttributeError, TypeError):
        return None
    if name == "input_ids":
        special = {
            token
            for field, value in vars(config).items()
            if field.endswith("_token_id")
            for token in (value if isinstance(value, list) else [value])  # some end a text with one of several
        }
        words = [
            word for word in range(min(getattr(config, "vocab_size", 0), 4 * PROBE_TOKENS)) if word not in special
        ]
        if not words:
            return None
        values = torch.tensor(words)[torch.randint(len(words), shape, generator=generator)]
    else:
        values = torch.randn(shape, generator=generator, dtype=torch.float32)
    return {name: values.to(encoder.device)}


def _tokens_shape(config: Any) -> tuple[int, ...]:
    most = getattr(config, "max_position_embeddings", None) or -1  # -1: as many as one likes
    return 1, min(PROBE_TOKENS, most // 2) if most > 0 else PROBE_TOKENS


def _image_shape(config: Any) -> tuple[int, ...]:
    size = getattr(config, "image_size", None) or 224  # encoders without it read any size
    sides = (size, size) if isinstance(size, int) else tuple(size)
    frames = () if getattr(config, "num_frames", None) is None else (config.num_frames,)
    return (1, *frames, getattr(config, "num_channels", 3), *sides)


def _sound_shape(config: Any) -> tuple[int, ...]:
    if hasattr(config, "num_mel_bins"):
        return 1, config.max_length, config.num_mel_bins
    if not hasattr(config, "conv_kernel"):
        return 1, 1000 * PROBE_POSITIONS
    return 1, FrameCounter(tuple(config.conv_kernel), tuple(config.conv_stride)).samples_for(PROBE_POSITIONS)


def _features_shape(config: Any) -> tuple[int, ...]:
    if hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins"):
        return 1, config.num_mel_bins, 2 * config.max_source_positions
    for field in ("feature_projection_input_dim", "num_mel_bins", "input_feat_per_channel"):
        if hasattr(config, field):
            return 1, 8 * PROBE_POSITIONS, getattr(config, field)
    raise AttributeError("no width of the features")


_PROBE_SHAPES: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "input_ids": _tokens_shape,
    "pixel_values": _image_shape,
    "pixel_values_videos": lambda config: (1, config.frames_per_clip, 3, config.crop_size, config.crop_size),
    "input_values": _sound_shape,
    "input_features": _features_shape,
    "past_values": lambda config: (1, config.context_length, config.num_input_channels),
    "inputs_embeds": lambda config: (1, min(PROBE_TOKENS, config.context_length), config.feature_size),
}


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts every module in evaluation mode and gives each its own mode back: some may be held in it on purpose."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, and the random numbers that follow are those that would have followed anyway."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), evaluation_mode(model):
        yield


@contextmanager
def _experiment(encoder_copy: PreTrainedModel) -> Iterator[None]:
    """Exact arithmetic, evaluation mode, no gradients, and random numbers go on as if nothing had been run."""
    with exact_arithmetic(encoder_copy.device.type), undisturbed(encoder_copy), torch.no_grad():
        yield


def first_sample(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The first sample of a batch that holds neither NaN nor infinity (if each does, the first), in float32."""
    row = _first_finite_row(inputs)
    sample = {
        name: value[row : row + 1] if isinstance(value, Tensor) and value.ndim else value
        for name, value in inputs.items()
    }
    return {
        name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in sample.items()
    }


def _first_finite_row(inputs: Mapping[str, Any]) -> int:
    finite = [
        value.reshape(len(value), -1).isfinite().all(1)
        for value in inputs.values()
        if isinstance(value, Tensor) and value.ndim and value.numel() and value.is_floating_point()
    ]
    rows = [row for row in finite if len(row) == len(finite[0])]
    return int(torch.stack(rows).all(0).int().argmax()) if rows else 0


def _repeated(sample: Mapping[str, Any], copies: int) -> dict[str, Any]:
    """One sample several times over."""
    return {
        name: value.repeat_interleave(copies, 0) if isinstance(value, Tensor) and value.ndim else value
        for name, value in sample.items()
    }


def longest_text(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The longest row of a batch of tokens, without its padding: what some encoders (ESM) make zero at the first block
    can't be followed there."""
    attention_mask = inputs.get("attention_mask")
    if attention_mask is None:
        return dict(inputs)
    row = int(attention_mask.sum(1).argmax())
    real = attention_mask[row].bool()
    return {
        name: value[row : row + 1, real]
        if isinstance(value, Tensor) and value.shape[:2] == attention_mask.shape
        else value
        for name, value in inputs.items()
    }


def measure(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    inputs: Mapping[str, Any],
    template: EncoderTemplate | None = None,
) -> BackboneMeasurements:
    """Look at a copy of an encoder at work on one sample of some inputs, in exact float32 arithmetic.

    Args:
        encoder: stays as it is.
        layout: of the encoder.
        inputs: a batch; the first sample is taken that holds neither NaN nor infinity.
        template: of the encoder, needed if it is compiled or sharded by now.

    Raises:
        UnsupportedBackboneError: it does not run on these inputs, no block runs, the batch does not come first, or the
            content does not stay in order.
        ValueError: a weight or the sample holds NaN or infinity.
    """
    with naming_parts(encoder):
        return _measured((template or EncoderTemplate(encoder)).float32_copy(encoder), layout, first_sample(inputs))


def _measured(encoder: PreTrainedModel, layout: BackboneLayout, sample: dict[str, Any]) -> BackboneMeasurements:
    with _experiment(encoder):
        content, _ = _first_block(encoder, layout, sample)
        positions = content.shape[1]
        if layout.reads_tokens:  # some encoders pad their tokens to a multiple of a window
            positions = min(positions, sample[main_input(encoder)].shape[1])
        started, ended, layers, output = _watched(encoder, layout, all_inputs(layout, _repeated(sample, 2), positions))
        if len(content) != 1 or len(layers[0]) != 2:
            raise UnsupportedBackboneError(
                f"{describe(encoder)} does not keep samples apart, as (batch, positions, channels): it embeds one "
                f"sample as {tuple(content.shape)}, and of two samples its blocks make {tuple(layers[0].shape)}."
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
    with _experiment(encoder):
        unused = _unused(encoder, layout, given, length, takes_last_block)
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
        # A positional convolution behind the seam starts after it ends and is left out; position embeddings and their
        # norm sit in a module around the seam and are included.
        embeddings=frozenset(
            name for name, end in ended.items() if end < first_block and started[name] < ended[layout.content]
        ),
        unused=unused,
        num_layers=len(layers),
    )


def _watched(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: dict[str, Any]
) -> tuple[dict[str, int], dict[str, int], list[Tensor], Tensor]:
    """When each module started and ended in one forward pass, what the blocks returned, and what the encoder did."""
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
        f"{describe(encoder)} did not call {layout.blocks[0]} in its forward pass, which looks like the first of its "
        "blocks, so what its blocks return can't be read."
    )


class _Reached(BaseException):
    """Carries the input of the first block out of a forward pass that need not go on, past what catches errors."""


def _first_block(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: Mapping[str, Any], changed: int | None = None
) -> tuple[Tensor, Tensor]:
    """(1, n, E) at the content module and (1, L, C) at the first block.

    Args:
        changed: a position whose content is changed on the way.
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
                    f"{describe(encoder)} reached its first block without a call of {layout.content}, which looks "
                    "like the module that embeds its content."
                ) from None
            return contents[0], as_sequence(reached.args[0], layout.quirks.channels_first)
    raise _no_block_ran(encoder, layout)


def _placement(
    encoder: PreTrainedModel, layout: BackboneLayout, inputs: Mapping[str, Any], positions: int, block_length: int
) -> tuple[int, int, int, bool]:
    """T, the number of prefix tokens, the stride, and whether neighbours are mixed.

    A change at position j of the content must reach row prefix + j of the first block, and no other unless neighbours
    are mixed on the way.

    Raises:
        UnsupportedBackboneError: a change does not reach its row.
        ValueError: the first block is given NaN or infinity.
    """
    if layout.hierarchical:
        stride = round((positions / block_length) ** 0.5)
        if stride**2 * block_length != positions:
            raise UnsupportedBackboneError(
                f"{describe(encoder)} embeds {positions} positions and its last stage has {block_length}: not the "
                "same number of them along each side of an image."
            )
        return block_length, 0, stride, False
    stride = max(positions // block_length, 1)
    length = positions // stride
    _, plain = _first_block(encoder, layout, inputs)
    if not plain.isfinite().all():
        raise ValueError(
            f"{describe(encoder)} gives its first block NaN or infinity, though no weight of it holds any. Check that "
            f"the sample that it was given, {_shapes(inputs)}, holds neither, and that it is normalised."
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
                f"{describe(encoder)} makes no gradients in evaluation mode, so which of its weights are trained "
                "can't be found out."
            )
        gradients = torch.autograd.grad(output.float().sum(), list(trainable.values()), allow_unused=True)
    used = {name for name, gradient in zip(trainable, gradients, strict=True) if isinstance(gradient, Tensor)}
    return frozenset(name for name in trainable.keys() - used if name != layout.mask_parameter and ROUTED not in name)


def visible_only_fault(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    template: EncoderTemplate | None = None,
) -> str | None:
    """Why the blocks can't run on visible positions alone, or `None` if they can.

    They can if a row's encoding depends on what the other rows hold and on nothing else: all positions give the plain
    output, shuffled positions the shuffled output, and positions that are given twice the output of once.

    Args:
        encoder, layout, inputs, template: see `measure`. A copy of the encoder is tried.
        measurements: what `measure` found, its `length` that of these inputs.

    Raises:
        ValueError: a weight holds NaN or infinity.
    """
    if layout.hierarchical:
        return "it works in stages that merge neighbouring positions"
    encoder = (template or EncoderTemplate(encoder)).float32_copy(encoder)
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
    with _experiment(encoder):
        try:
            plain = encode(encoder, layout, sample, length, takes_last_block=True)
            if not plain.isfinite().any():
                return "its blocks give NaN or infinity alone"
            if _differ(run(everything), plain[:, : prefix + length]):
                return "given all positions in order, its blocks give something else than in a plain pass"
            expected, moved = run(some, shuffled)
            if _differ(moved[torch.argsort(shuffled)], expected):
                return "its blocks take a position's place from where it stands among the visible ones"
            if prefix == 0 and _differ(run(some.repeat(2))[0, : len(some)], expected):
                return "what its blocks make of a position depends on how many positions there are"
        except torch.OutOfMemoryError:  # says nothing about the encoder
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            return f"its blocks do not run on a part of the positions ({type(error).__name__}: {error})"
    return None


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs are not the same but for rounding; NaN, such as at padding, is the same as NaN."""
    if one.shape != other.shape:
        return True
    largest = float(other.abs().nan_to_num(posinf=0.0).max())
    return not torch.allclose(one, other, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True)


def require_visible_only(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    template: EncoderTemplate | None = None,
) -> None:
    """Raise UnsupportedBackboneError if the blocks can't run on visible positions alone (see `visible_only_fault`)."""
    fault = visible_only_fault(encoder, layout, measurements, inputs, template)
    if fault is not None:
        raise UnsupportedBackboneError(
            f"student_input='visible' is not possible with {describe(encoder)}: {fault}. Set "
            "student_input='mask_token': masked positions then hold a mask embedding, and every block runs on all of "
            "them, so that each mask costs about as much as a whole sample. All else of data2vec 2.0 stays as it is."
        )


__all__ = [
    "BackboneMeasurements",
    "all_inputs",
    "encode",
    "evaluation_mode",
    "first_sample",
    "longest_text",
    "made_up_sample",
    "main_input",
    "measure",
    "require_visible_only",
    "visible_only_fault",
]
