"""Reaching into any encoder: where its blocks are, where content goes in, how it runs on visible positions alone.

Nothing here keeps a hook on the encoder: each function below is a context around one forward pass, and the encoder is
an ordinary model again when it ends.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, L = prefix tokens + T, V visible positions,
C channels, E channels at the content seam.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .families_data2vec_generic import MASK_PARAMETERS, UNUSED_MODULES, family_of


class UnsupportedBackboneError(ValueError):
    """The encoder lacks something that data2vec needs; the message says what, and what to do."""


@dataclass(frozen=True)
class Seams:
    """Where data2vec reaches into an encoder, as module names, which hold for the student and the teacher alike.

    Args:
        blocks: the main stack, in order; its top K outputs make the target.
        stacks: every block of the same class, e.g. those of a prenet in front of the main stack.
        content: the module whose output is the content of each position, before positions are added.
        gathered: modules inside the blocks whose output must be gathered with the sequence.
        unused: parameters that never get a gradient.
        mask_parameter: the encoder's own mask embedding, if it has one.
        reads_tokens: the content is looked up from token ids.
    """

    blocks: tuple[str, ...]
    stacks: tuple[str, ...]
    content: str
    gathered: tuple[str, ...]
    unused: tuple[str, ...]
    mask_parameter: str | None
    reads_tokens: bool


def find_seams(encoder: PreTrainedModel) -> Seams:
    """Look at an encoder's structure; no forward pass, so it works on the meta device too.

    Raises:
        UnsupportedBackboneError: there is no stack of blocks, or no module that embeds the content.
    """
    family = family_of(encoder.config.model_type)
    blocks, stacks = _find_blocks(encoder)
    content = _find_content(encoder)
    names = [name for name, _ in encoder.named_parameters()]
    return Seams(
        blocks=blocks,
        stacks=stacks,
        content=content,
        gathered=tuple(
            name
            for name, _ in encoder.named_modules()
            if name.endswith(family.gathered_modules or ("\0",)) and _is_within(name, stacks)
        ),
        unused=tuple(name for name in names if set(UNUSED_MODULES) & set(name.split("."))),
        mask_parameter=next((name for name in names if name.split(".")[-1] in MASK_PARAMETERS), None),
        reads_tokens=isinstance(encoder.get_submodule(content), nn.Embedding),
    )


def _find_blocks(encoder: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The largest list of modules of one class, and the members of every list of that class (outermost on ties)."""
    lists = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(member) for member in module}) == 1
    ]
    sizes = [sum(parameter.numel() for parameter in module.parameters()) for _, module in lists]
    if not lists or max(sizes) == 0:
        raise UnsupportedBackboneError(
            f"{type(encoder).__name__} (model type {encoder.config.model_type!r}) has no stack of blocks: no "
            "torch.nn.ModuleList whose members are of one class. data2vec needs an encoder made of such blocks."
        )
    main_name, main = lists[sizes.index(max(sizes))]
    block_class = type(main[0])
    members = {
        name: [f"{name}.{i}" for i in range(len(module))] for name, module in lists if type(module[0]) is block_class
    }
    return tuple(members[main_name]), tuple(block for blocks in members.values() for block in blocks)


def _find_content(encoder: PreTrainedModel) -> str:
    """The feature projection of speech encoders, else the input embeddings (patch projections included)."""
    for name, _ in encoder.named_modules():
        if name.split(".")[-1] == "feature_projection":
            return name
    try:
        embeddings = encoder.get_input_embeddings()
    except NotImplementedError as error:
        raise UnsupportedBackboneError(
            f"{type(encoder).__name__} (model type {encoder.config.model_type!r}) does not say where its content is "
            "embedded: it has no module named feature_projection, and get_input_embeddings() is not implemented. "
            "Implement it so that it returns the word, patch or frame embedding."
        ) from error
    return next(name for name, module in encoder.named_modules() if module is embeddings)


def _is_within(name: str, ancestors: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{ancestor}.") for ancestor in ancestors)


@dataclass
class Trace:
    """What one forward pass showed of the order in which an encoder's modules run.

    Args:
        entry: the first module that works on the raw input; it leads to the content seam or is the seam itself.
        embeddings: modules that make up what runs before the first block, up to and around the content seam.
    """

    entry: str = ""
    embeddings: frozenset[str] = frozenset()

    def covers(self, parameter: str) -> bool:
        """Whether a parameter belongs to the embeddings, in the sense of `teacher_embeddings`."""
        return _is_within(parameter, tuple(self.embeddings))


@contextmanager
def traced(encoder: nn.Module, seams: Seams) -> Iterator[Trace]:
    """Watch one forward pass; the trace is complete when the context ends.

    The embeddings are the modules that end before the first block starts and start before the content seam ends. A
    positional convolution behind the seam starts later and is left out; position embeddings and their norm sit in a
    module around the seam and are included.
    """
    started: dict[str, int] = {}
    ended: dict[str, int] = {}
    clock = iter(range(1 << 60))
    with ExitStack() as stack:
        for name, module in encoder.named_modules():
            if name:
                stack.enter_context(
                    _hook(module.register_forward_pre_hook, lambda *_, name=name: _once(started, name, clock))
                )
                stack.enter_context(
                    _hook(module.register_forward_hook, lambda *_, name=name: _once(ended, name, clock))
                )
        trace = Trace()
        yield trace
    first_block = min(started[name] for name in seams.stacks if name in started)
    trace.embeddings = frozenset(
        name for name, end in ended.items() if end < first_block and started[name] < ended[seams.content]
    )
    leading = (name for name in sorted(started, key=started.__getitem__) if not seams.content.startswith(f"{name}."))
    trace.entry = next(leading)


def _once(times: dict[str, int], name: str, clock: Iterator[int]) -> None:
    times.setdefault(name, next(clock))


@contextmanager
def _hook(register: Callable[..., Any], hook: Callable[..., Any], **options: Any) -> Iterator[None]:
    handle = register(hook, **options)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def recorded_layers(encoder: nn.Module, seams: Seams, source: str) -> Iterator[list[Tensor]]:
    """Collect one (B, L, C) tensor from each block that runs, in order.

    Args:
        source: "block" takes what the block returns; "ffn" the output of the last linear layer that ran in it, which
            is the feed-forward output before dropout, residual and norm (data2vec, section 3.3).
    """
    layers: list[Tensor] = []
    last_linear: list[Tensor] = []

    def keep_linear(module: nn.Module, args: Any, output: Tensor) -> None:
        last_linear[:] = [output]

    def keep_layer(module: nn.Module, args: Any, output: Any) -> None:
        block_output = output if isinstance(output, Tensor) else output[0]
        layer = last_linear.pop() if source == "ffn" else block_output
        if layer.shape != block_output.shape:
            raise UnsupportedBackboneError(
                f"The last linear layer of {type(module).__name__} returns {tuple(layer.shape)} where the block "
                f"returns {tuple(block_output.shape)}, so it is not a feed-forward output. Set target_source='block'."
            )
        layers.append(layer)

    with ExitStack() as stack:
        for name in seams.blocks:
            block = encoder.get_submodule(name)
            if source == "ffn":
                for module in block.modules():
                    if isinstance(module, nn.Linear):
                        stack.enter_context(_hook(module.register_forward_hook, keep_linear))
            stack.enter_context(_hook(block.register_forward_hook, keep_layer))
        yield layers


@contextmanager
def masked_content(
    encoder: nn.Module, seams: Seams, mask: Tensor, embedding: Tensor | None, copies: int = 1, entry: str | None = None
) -> Iterator[None]:
    """Replace the content of masked positions in one forward pass, before positions are added.

    Args:
        mask: (R, T) bool, True = masked.
        embedding: (E) in some shape, what masked positions hold instead; `None` is zero.
        copies: the R input rows are R / copies samples, each repeated `copies` times in a row. With more than one, the
            modules from `entry` to the content seam run once per sample, and their output is repeated.
        entry: see `Trace`; needed if copies > 1.
    """

    def thin(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def pick(value: Any) -> Any:
            return (
                value[::copies] if isinstance(value, Tensor) and value.ndim and value.shape[0] == len(mask) else value
            )

        return tuple(map(pick, args)), {name: pick(value) for name, value in kwargs.items()}

    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        content = output if isinstance(output, Tensor) else output[0]
        content = content.repeat_interleave(copies, 0) if copies > 1 else content
        channels_first = content.ndim > 3 or isinstance(module, nn.Conv1d)
        flat = content.flatten(2).transpose(1, 2) if channels_first else content
        if flat.shape[:2] != mask.shape:
            raise ValueError(
                f"mask covers {mask.shape[1]} positions in {mask.shape[0]} rows, but the encoder embeds "
                f"{flat.shape[1]} in {flat.shape[0]}. It must have one entry per patch, frame or token, without "
                "prefix tokens such as CLS."
            )
        filler = flat.new_zeros(()) if embedding is None else embedding.to(flat.dtype).view(-1)
        flat = torch.where(mask.unsqueeze(-1), filler, flat)
        content = flat.transpose(1, 2).reshape(content.shape) if channels_first else flat
        return content if isinstance(output, Tensor) else (content, *output[1:])

    with ExitStack() as stack:
        if copies > 1:
            assert entry is not None
            stack.enter_context(_hook(encoder.get_submodule(entry).register_forward_pre_hook, thin, with_kwargs=True))
        stack.enter_context(_hook(encoder.get_submodule(seams.content).register_forward_hook, replace))
        yield


class VisiblePositions:
    """Which positions each row of a visible-only pass reads.

    Args:
        visible: (R, T) bool, the positions to encode.
        padding: (R, T) bool or `None`: positions that attention ignores. Rows with fewer visible positions than the
            fullest one repeat one of theirs, which therefore no other position sees.
        samples: (R) index of each row's sample among the rows that reach the first block.

    Attributes:
        index: (R, V) content positions in rising order, fillers last.
        filled: (R, V) bool, False at fillers.
    """

    def __init__(self, visible: Tensor, padding: Tensor | None, samples: Tensor):
        counts = visible.sum(1)
        fillable = counts == counts.max() if padding is None else (counts == counts.max()) | padding.any(1)
        # One wait for the device, not three.
        width, fewest, every_row_fits = torch.stack((counts.max(), counts.min(), fillable.all())).tolist()
        if fewest == 0:
            raise ValueError(
                "mask leaves a row without any visible position, so its student has nothing to read. Lower mask_ratio."
            )
        if not every_row_fits:
            raise ValueError(
                "Some rows of mask leave fewer positions visible than others and have no padding to fill up with. "
                "Mask the same number of positions in every row of the same length."
            )
        self.samples = samples
        self.filled = torch.arange(width, device=visible.device) < counts.unsqueeze(1)
        self.index = visible.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        if padding is not None:
            self.index = torch.where(self.filled, self.index, padding.to(torch.uint8).argmax(1, keepdim=True))

    def full_index(self, prefix: int) -> Tensor:
        """(R, prefix + V): the prefix tokens, then the visible positions behind them."""
        tokens = torch.arange(prefix, device=self.index.device).expand(len(self.index), -1)
        return torch.cat([tokens, self.index + prefix], dim=1)


@contextmanager
def visible_only(encoder: nn.Module, seams: Seams, positions: VisiblePositions, length: int) -> Iterator[None]:
    """Run the blocks on visible positions alone (data2vec 2.0, section 3.2), in one forward pass.

    The first block that runs gathers its (B or R, L, C) input to (R, prefix + V, C), so that embeddings cost B
    samples and blocks R rows. Every block gathers whatever else it gets that spans the sequence: masks, biases,
    rotary tables.

    Args:
        length: T, content positions of the full sequence.
    """
    index = torch.empty(0)
    full_length = 0
    cache: dict[int, tuple[Tensor, Tensor]] = {}

    def rows_of(tensor: Tensor) -> Tensor:
        return positions.samples if tensor.shape[0] > 1 else torch.zeros_like(positions.samples)

    def along_sequence(tensor: Tensor) -> Tensor:  # (B, L, ...)
        return tensor[rows_of(tensor).unsqueeze(1), index]

    def along_both(tensor: Tensor) -> Tensor:  # (B, heads, L or 1, L)
        rows = rows_of(tensor)
        if tensor.shape[-2] == 1:
            return tensor[rows.unsqueeze(1), :, :, index].permute(0, 2, 3, 1)
        return tensor[rows[:, None, None], :, index.unsqueeze(2), index.unsqueeze(1)].permute(0, 3, 1, 2)

    def gather(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(gather(name, item) for item in value)
        if not isinstance(value, Tensor) or full_length not in value.shape:
            return value
        if id(value) not in cache:  # blocks share these, so each is gathered once
            if "mask" in name or "bias" in name:
                gathered = along_both(value) if value.ndim == 4 else along_sequence(value)
            elif name in ("position_embeddings", "position_ids"):
                gathered = along_sequence(value)
            else:
                raise UnsupportedBackboneError(
                    f"A block of {type(encoder).__name__} gets {name!r} of shape {tuple(value.shape)}, which seems "
                    f"to span the sequence of {full_length}, and how to restrict it to visible positions is unknown. "
                    "Set student_input='mask_token'."
                )
            cache[id(value)] = (value, gathered)  # keeps the key alive, so that its id is not given to another tensor
        return cache[id(value)][1]

    def enter(
        block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal index, full_length
        names = list(inspect.signature(block.forward).parameters)
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        hidden = values[names[0]]
        if full_length == 0:
            full_length = hidden.shape[1]
            index = positions.full_index(full_length - length)
            hidden = along_sequence(hidden)
        values = {name: gather(name, value) for name, value in values.items() if name != names[0]} | {names[0]: hidden}
        return tuple(values.pop(name) for name in names[: len(args)]), values

    def restrict(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return along_both(output)

    with ExitStack() as stack:
        for name in seams.stacks:
            stack.enter_context(_hook(encoder.get_submodule(name).register_forward_pre_hook, enter, with_kwargs=True))
        for name in seams.gathered:
            block = next(block for block in seams.stacks if _is_within(name, (block,)))
            stack.enter_context(_inner_hook(encoder.get_submodule(block), encoder.get_submodule(name), restrict))
        yield


@contextmanager
def _inner_hook(block: Any, module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """A forward hook on a module inside a block that is also there when activation checkpointing runs the block again.

    That happens in the backward pass, after this context has ended.
    """
    if not (block.training and getattr(block, "gradient_checkpointing", False)):
        with _hook(module.register_forward_hook, hook):
            yield
        return
    checkpoint = block._gradient_checkpointing_func

    def with_hook(function: Callable[..., Any], *args: Any) -> Any:
        def run(*args: Any) -> Any:
            with _hook(module.register_forward_hook, hook):
                return function(*args)

        return checkpoint(run, *args)

    block._gradient_checkpointing_func = with_hook
    try:
        yield
    finally:
        block._gradient_checkpointing_func = checkpoint


class _FirstBlock(Exception):
    """Carries the input of the first block out of a forward pass that need not go on."""


@torch.no_grad()
def mixes_neighbours(encoder: PreTrainedModel, seams: Seams, inputs: dict[str, Any], length: int) -> bool:
    """Whether something between the content seam and the first block lets a position see its neighbours.

    Positional convolutions do. With every second position masked, a masked row that reaches the first block then
    differs from what it is with all of them masked.

    Args:
        inputs: one sample, as the encoder takes it.
        length: T of that sample.
    """

    def stop(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _FirstBlock(args[0] if args else kwargs[next(iter(inspect.signature(block.forward).parameters))])

    def first_block_input(mask: Tensor) -> Tensor:
        with ExitStack() as stack:
            stack.enter_context(masked_content(encoder, seams, mask, None))
            for name in seams.stacks:
                stack.enter_context(
                    _hook(encoder.get_submodule(name).register_forward_pre_hook, stop, with_kwargs=True)
                )
            try:
                encoder(**inputs)
            except _FirstBlock as reached:
                return reached.args[0]
        raise UnsupportedBackboneError(f"No block of {type(encoder).__name__} ran in its forward pass.")

    training = encoder.training
    encoder.eval()
    device = next(encoder.parameters()).device
    full = torch.ones(1, length, dtype=torch.bool, device=device)
    partial = full.clone()
    partial[:, 1::2] = False
    seen, unseen = (first_block_input(mask)[0, -length:][partial[0]] for mask in (partial, full))
    encoder.train(training)
    return not torch.equal(seen, unseen)


def real_positions(encoder: PreTrainedModel, inputs: dict[str, Any], length: int) -> Tensor | None:
    """(B, T) bool, False at padding, from the attention mask of tokens or samples; `None` if there is no such mask."""
    attention_mask = inputs.get("attention_mask")
    if attention_mask is None:
        return None
    if attention_mask.shape[-1] == length:
        return attention_mask.bool()
    frame_mask = getattr(encoder, "_get_feature_vector_attention_mask", None)
    if frame_mask is not None:
        return frame_mask(length, attention_mask).bool()
    raise UnsupportedBackboneError(
        f"attention_mask has {attention_mask.shape[-1]} entries per sample and mask has {length}, and "
        f"{type(encoder).__name__} does not say which positions are padding. Give it "
        "_get_feature_vector_attention_mask(length, attention_mask), as the speech encoders of transformers have, "
        "or set ignore_padding=False."
    )


def patch_grid(config: Any) -> tuple[int, int] | None:
    """(rows, columns) of an image encoder's patches, `None` if the config describes no image.

    Raises:
        ValueError: the patches do not tile the image.
    """
    if getattr(config, "image_size", None) is None or getattr(config, "patch_size", None) is None:
        return None
    image, patch = _pair(config.image_size), _pair(config.patch_size)
    if image[0] % patch[0] or image[1] % patch[1]:
        raise ValueError(
            f"patch_size={config.patch_size} does not divide image_size={config.image_size}: a border of the image "
            "would be cut off. Choose a patch size that divides both sides, or resize the images."
        )
    return image[0] // patch[0], image[1] // patch[1]


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True)
class FrameCounter:
    """Frames that a stack of unpadded convolutions makes of a number of samples, e.g. wav2vec 2.0's feature
    encoder."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, samples: int) -> int:
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def samples_for(self, frames: int) -> int:
        """The fewest samples that make this many frames."""
        samples = frames
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


__all__ = [
    "FrameCounter",
    "Seams",
    "Trace",
    "UnsupportedBackboneError",
    "VisiblePositions",
    "find_seams",
    "masked_content",
    "mixes_neighbours",
    "patch_grid",
    "real_positions",
    "recorded_layers",
    "traced",
    "visible_only",
]
