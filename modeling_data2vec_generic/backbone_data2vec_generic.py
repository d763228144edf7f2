"""Reaching into any encoder for one forward pass: what its blocks give, what goes into it, which positions it reads.

Nothing here keeps a hook on the encoder: each function below is a context around one forward pass, and the encoder is
an ordinary model again when it ends.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, L = prefix tokens + T, V visible positions,
C channels, E channels at the content module, H attention heads.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from .feed_forward_data2vec_generic import TappedForward, feed_forward_layers
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, is_within

# Parts of the names of a block's arguments that have an entry for each pair of positions, or for each key.
PAIRWISE = ("mask", "bias", "rel_pos", "rel_2d_pos", "relative_pos")
# Names of a block's arguments that have a row for each position.
TABLES = ("position_embeddings", "sinusoidal_pos")


@contextmanager
def hooked(register: Callable[..., Any], hook: Callable[..., Any], **options: Any) -> Iterator[None]:
    """Register a hook with one of a module's `register_..._hook` methods and remove it when the context ends."""
    handle = register(hook, **options)
    try:
        yield
    finally:
        handle.remove()


def first(output: Any) -> Tensor:
    """The hidden states in a module's output: the output itself if it is a tensor, else its first element."""
    return output if isinstance(output, Tensor) else output[0]


def as_sequence(hidden: Tensor, channels_first: bool = False) -> Tensor:
    """Flatten (B, ..., C) or, with channels first, (B, C, ...) to (B, T, C). Up to three axes are returned as is."""
    if hidden.ndim <= 3:
        return hidden
    return hidden.flatten(2).transpose(1, 2) if channels_first else hidden.flatten(1, -2)


@contextmanager
def recorded_layers(encoder: nn.Module, layout: BackboneLayout, source: str) -> Iterator[list[Tensor]]:
    """Collect one (B, L, C) tensor from each block that runs in this context, in the order in which they run.

    Args:
        source: "block" collects the output of each block. "ffn" collects the output of the last linear layer that
            runs in it, or of the one that the quirks name: the feed-forward output before dropout, residual and norm
            (data2vec, section 3.3).

    Raises:
        UnsupportedBackboneError: for "ffn", the linear layer's output has another shape than the block's.
    """
    layers: list[Tensor] = []
    last_linear: list[Tensor] = []

    def keep_linear(module: nn.Module, args: Any, output: Tensor) -> None:
        last_linear[:] = [output]

    def keep_layer(module: nn.Module, args: Any, output: Any) -> None:
        block_output = as_sequence(first(output), layout.quirks.channels_first)
        if source == "block":
            layers.append(block_output)
            return
        layer = as_sequence(last_linear.pop()) if last_linear else None
        if layer is not None and layout.quirks.channels_apart:  # (B * channels, T, C) inside the block
            layer = layer.reshape(block_output.shape)
        if layer is None or layer.shape != block_output.shape:
            raise UnsupportedBackboneError(
                f"The last linear layer of {type(module).__name__} in {describe(encoder)} returns "
                f"{layer if layer is None else tuple(layer.shape)} where the block returns "
                f"{tuple(block_output.shape)}, so it is not a feed-forward output. Set target_source='block'."
            )
        layers.append(layer)

    with ExitStack() as stack:
        for name in layout.blocks:
            block = encoder.get_submodule(name)
            if source == "ffn" and isinstance(block.forward, TappedForward):
                stack.enter_context(block.forward.handing_over(last_linear))
            elif source == "ffn":
                for linear in feed_forward_layers(block, layout):
                    stack.enter_context(hooked(linear.register_forward_hook, keep_linear))
            stack.enter_context(hooked(block.register_forward_hook, keep_layer))
        yield layers


def content_of(module: nn.Module, output: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The content in the output of the content module, and a function that makes such an output of changed content.

    Returns:
        content: (B, T, E).
        put_back: takes content of that shape and returns it in the form of `output`.
    """
    content = first(output)
    channels_first = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    flat = content.flatten(2).transpose(1, 2) if channels_first else content.flatten(1, -2)

    def put_back(changed: Tensor) -> Any:
        shaped = changed.transpose(1, 2) if channels_first else changed
        shaped = shaped.reshape(len(changed), *content.shape[1:])
        return shaped if isinstance(output, Tensor) else (shaped, *output[1:])

    return flat, put_back


def stretched(mask: Tensor, positions: int, grid: tuple[int, int] | None) -> Tensor:
    """Repeat the entries of a mask so that it fits a finer sequence or grid: (R, T) -> (R, positions).

    Args:
        grid: (rows, columns) in which the T entries of the mask lie on an image; `None` if they lie in a sequence.
    """
    if mask.shape[1] == positions:
        return mask
    if grid is None:
        stride = positions // mask.shape[1]
        mask = mask.repeat_interleave(stride, 1)
        return torch.cat([mask, mask[:, -1:].expand(-1, positions - mask.shape[1])], 1)
    stride = round((positions / mask.shape[1]) ** 0.5)
    return mask.unflatten(1, grid).repeat_interleave(stride, 1).repeat_interleave(stride, 2).flatten(1)


@contextmanager
def masked_content(
    encoder: nn.Module,
    layout: BackboneLayout,
    mask: Tensor,
    embedding: Tensor | None,
    *,
    stride: int = 1,
    grid: tuple[int, int] | None = None,
    copies: int = 1,
    entry: str | None = None,
) -> Iterator[None]:
    """Replace the content of masked positions in one forward pass, before position embeddings are added.

    Args:
        mask: (R, T) bool, True = masked.
        embedding: E elements in any shape, which replace the content of each masked position; `None` means zeros.
        stride: positions at the content module per entry of the mask; on an image, along each side.
        grid: (rows, columns) of the mask on an image; needed there if the stride is more than 1.
        copies: how many consecutive rows of the input belong to the same sample. With more than one, the modules from
            `entry` to the content module run once per sample, and their output is repeated.
        entry: see `BackboneMeasurements`; needed if copies > 1.

    Raises:
        ValueError: in the forward pass, if the mask does not have one entry per position.
    """

    replaced = False

    def keep_one_copy(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def pick(value: Any) -> Any:
            if replaced or not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(mask):
                return value
            return value[::copies]

        return tuple(map(pick, args)), {name: pick(value) for name, value in kwargs.items()}

    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal replaced
        if replaced:  # LED embeds its padding separately
            return output
        replaced = True
        if copies > 1:
            repeated = first(output).repeat_interleave(copies, 0)
            output = repeated if isinstance(output, Tensor) else (repeated, *output[1:])
        flat, put_back = content_of(module, output)
        covered = flat.shape[1] // (stride if grid is None else stride**2)
        masked = mask
        if layout.reads_tokens:  # some encoders pad their tokens to a multiple of a window
            masked = nn.functional.pad(mask, (0, max(flat.shape[1] - mask.shape[1], 0)))
        if (len(flat), covered) != tuple(masked.shape):
            raise ValueError(
                f"mask covers {mask.shape[1]} positions in {mask.shape[0]} rows, but the encoder embeds "
                f"{covered} in {len(flat)}. It must have one entry per patch, frame or token, without "
                "prefix tokens such as CLS."
            )
        filler = flat.new_zeros(()) if embedding is None else embedding.to(flat.dtype).view(-1)
        return put_back(torch.where(stretched(masked, flat.shape[1], grid).unsqueeze(-1), filler, flat))

    with ExitStack() as stack:
        if copies > 1:
            assert entry is not None
            stack.enter_context(
                hooked(encoder.get_submodule(entry).register_forward_pre_hook, keep_one_copy, with_kwargs=True)
            )
        stack.enter_context(hooked(encoder.get_submodule(layout.content).register_forward_hook, replace))
        yield


@contextmanager
def visible_only(
    encoder: nn.Module, layout: BackboneLayout, index: Tensor, samples: Tensor, prefix: int, length: int
) -> Iterator[None]:
    """Run the blocks on a part of the positions in one forward pass (data2vec 2.0, section 3.2).

    The input of the first block, (B or R, L, C), is gathered to (R, V, C), so that the embeddings run on B samples and
    the blocks on R rows. All other arguments of the blocks that span the sequence are gathered too: attention masks,
    position biases and rotary tables.

    Args:
        index: (R, V), which of the L positions each row reads, in the order in which it reads them.
        samples: (R), for each row the index of its sample in the first block's input.
        prefix: number of prefix tokens, L - T.
        length: T, content positions of the full sequence.
    """
    quirks = layout.quirks
    full_length = prefix + length
    heads = getattr(encoder.config, "num_attention_heads", 1)
    cache: dict[int, tuple[Any, Any]] = {}
    entered = False

    def rows_of(tensor: Tensor) -> Tensor:
        return samples if tensor.shape[0] > 1 else torch.zeros_like(samples)

    def along_sequence(tensor: Tensor) -> Tensor:  # (B, L, ...)
        return tensor[rows_of(tensor).unsqueeze(1), index]

    def along_pairs(tensor: Tensor) -> Tensor:  # (B, H or 1, L or 1, L), (B, L or 1, L), (B, L)
        rows = rows_of(tensor)
        if tensor.ndim == 2:
            return along_sequence(tensor)
        if tensor.ndim == 3 and tensor.shape[-2] == 1:
            return tensor[rows.unsqueeze(1), :, index].transpose(1, 2)
        if tensor.ndim == 3:
            return tensor[rows[:, None, None], index.unsqueeze(2), index.unsqueeze(1)]
        if tensor.shape[-2] == 1:
            return tensor[rows.unsqueeze(1), :, :, index].permute(0, 2, 3, 1)
        return tensor[rows[:, None, None], :, index.unsqueeze(2), index.unsqueeze(1)].permute(0, 3, 1, 2)

    def along_table(tensor: Tensor) -> Tensor:  # (L or T, d), (B, L, d), (B, 1, L, d)
        if tensor.ndim == 2:  # it has no batch axis, and may have no rows for prefix tokens
            rows = index if len(tensor) == full_length else index[:, prefix:] - prefix
            return tensor[rows].unsqueeze(1)
        return along_sequence(tensor) if tensor.ndim == 3 else along_sequence(tensor[:, 0]).unsqueeze(1)

    def along_block_mask(mask: BlockMask) -> BlockMask:  # the attention mask of flex attention
        def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return mask.mask_mod(samples[row], head, index[row, query], index[row, key])

        rows, width = index.shape
        return create_block_mask(visible, rows, None, width, width, device=str(index.device))

    def restricted(name: str, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(restricted(name, item) for item in value)
        if not isinstance(value, Tensor | BlockMask):
            return value
        if name == quirks.per_sample:
            return value[samples]
        if isinstance(value, Tensor) and value.ndim < 2:
            return value
        if id(value) in cache:  # all blocks are given the same tensors, so each is gathered once
            return cache[id(value)][1]
        if isinstance(value, BlockMask):
            gathered: Any = along_block_mask(value)
        elif name == quirks.pairs_per_head:
            gathered = along_pairs(value).repeat_interleave(heads, 0).unsqueeze(0)
        elif name in TABLES and value.shape[-2] in (full_length, length):
            gathered = along_table(value)
        elif name == "position_ids":
            gathered = along_sequence(value)
        elif any(part in name for part in PAIRWISE) and value.shape[-1] == full_length:
            gathered = along_pairs(value)
        else:  # `visible_only_fault` finds out whether another argument would have to be gathered
            return value
        cache[id(value)] = (value, gathered)  # the reference to `value` keeps its id from being reused
        return gathered

    def enter(
        block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nonlocal entered
        names = list(inspect.signature(block.forward).parameters)
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        hidden = values.pop(names[0])
        values = {
            name: value if name == "position_bias" and quirks.position_bias else restricted(name, value)
            for name, value in values.items()
        }
        if not entered:
            hidden = along_sequence(hidden)
            if quirks.position_bias is not None:
                values["position_bias"] = first_bias(block.get_submodule(quirks.position_bias))
        if quirks.position_argument is not None:
            values[quirks.position_argument] = index - prefix
        entered = True
        values[names[0]] = hidden
        return tuple(values.pop(name) for name in names[: len(args)]), values

    def first_bias(module: Any) -> Tensor:
        bias = module.compute_bias(full_length, full_length)  # (1, H, L, L) or (H, L, L)
        gathered = along_pairs(bias if bias.ndim == 4 else bias.unsqueeze(0))
        return gathered if bias.ndim == 4 else gathered.flatten(0, 1)

    def restrict(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return along_pairs(output)

    with ExitStack() as stack:
        for name in layout.stacks:
            stack.enter_context(hooked(encoder.get_submodule(name).register_forward_pre_hook, enter, with_kwargs=True))
        for name in layout.gathered:
            block = next(block for block in layout.stacks if is_within(name, (block,)))
            stack.enter_context(_inner_hook(encoder.get_submodule(block), encoder.get_submodule(name), restrict))
        yield


@contextmanager
def _inner_hook(block: Any, module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """A forward hook on a module inside a block, which gradient checkpointing calls as well.

    Gradient checkpointing runs the block again in the backward pass, after this context has ended, so that the hook
    is registered within the function that it runs.
    """
    if not (block.training and getattr(block, "gradient_checkpointing", False)):
        with hooked(module.register_forward_hook, hook):
            yield
        return
    checkpoint = block._gradient_checkpointing_func

    def with_hook(function: Callable[..., Any], *args: Any) -> Any:
        def run(*args: Any) -> Any:
            with hooked(module.register_forward_hook, hook):
                return function(*args)

        return checkpoint(run, *args)

    block._gradient_checkpointing_func = with_hook
    try:
        yield
    finally:
        block._gradient_checkpointing_func = checkpoint


__all__ = [
    "as_sequence",
    "content_of",
    "first",
    "hooked",
    "masked_content",
    "recorded_layers",
    "visible_only",
]
