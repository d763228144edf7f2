"""What is known about one encoder: three records, of which this module makes the first.

1. `BackboneLayout` (here), found by structure: which modules are the blocks, and which one embeds the content.
   `find_layout` reads it from the encoder's modules when a model is built.
2. `BackboneQuirks` (quirks_data2vec_generic.py), known by type: what differs from the generic rules, written down in a
   table with one line for a type. `find_layout` takes it from the table; it is a field of the layout.
3. `BackboneMeasurements` (measurements_data2vec_generic.py), measured by running: what modules alone do not tell, such
   as the number of prefix tokens. `measure` runs the encoder a few times on a made-up sample when a model is built, or
   on the first batch where no sample can be made up.

Nothing here runs the encoder, so all of it works on the meta device too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedModel

from .quirks_data2vec_generic import MASK_PARAMETERS, BackboneQuirks, quirks_of

# Names of modules that turn the raw input into the content of each position. In an encoder that has one of them,
# `get_input_embeddings()` returns another module or an earlier step.
CONTENT_MODULES = ("feature_projection", "subsampling", "value_embedding")
WIDTH_FIELDS = ("hidden_size", "d_model", "embed_dim")


class UnsupportedBackboneError(ValueError):
    """The encoder lacks something that data2vec needs. The message says what, and what to do about it."""


@dataclass(frozen=True)
class BackboneLayout:
    """Which modules of an encoder data2vec reads and changes, by name. The names hold for student and teacher alike.

    Args:
        quirks: what is known about this model type.
        blocks: names of the blocks of the main stack, in order. The outputs of the last K make the target. If the
            encoder works in stages, these are the blocks of the last stage.
        stacks: names of all blocks of the same class, which includes those of a prenet in front of the main stack.
        hierarchical: whether the encoder works in stages of different widths.
        content: name of the module whose output is the content of each position, before position embeddings are added.
        gathered: names of modules inside the blocks whose output spans the sequence and is not an argument of a block.
            It is reduced to the visible positions as well.
        mask_parameter: name of the encoder's own mask embedding; `None` if it has none.
        reads_tokens: whether the content is an embedding of token ids.
        width: C, channels of the blocks' output.
        content_width: E, channels of the content module's output.
    """

    quirks: BackboneQuirks
    blocks: tuple[str, ...]
    stacks: tuple[str, ...]
    hierarchical: bool
    content: str
    gathered: tuple[str, ...]
    mask_parameter: str | None
    reads_tokens: bool
    width: int
    content_width: int


def find_layout(encoder: PreTrainedModel) -> BackboneLayout:
    """Find the blocks, the content module and the widths of an encoder from its modules and its configuration.

    Raises:
        UnsupportedBackboneError: there is no stack of blocks, no module that embeds the content, or no known width. If
            the model is made of several models, the message names those that can be used.
    """
    with naming_parts(encoder), explained(encoder):
        return _layout_of(encoder)


@contextmanager
def naming_parts(encoder: PreTrainedModel) -> Iterator[None]:
    """If the encoder is refused and contains models that can be used, replace the error by one that names them.

    Raises:
        UnsupportedBackboneError: the error that was raised in this context, or the one that replaces it.
    """
    try:
        yield
    except UnsupportedBackboneError as error:
        if parts := _usable_parts(encoder):
            raise UnsupportedBackboneError(_message_about_parts(encoder, parts)) from error
        raise


@contextmanager
def explained(encoder: PreTrainedModel, inputs: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn any error of the encoder's own code into an `UnsupportedBackboneError`.

    Its message names the encoder, the error, and what to do. Out-of-memory errors are passed on as they are, because
    they say nothing about the encoder.

    Args:
        inputs: what the encoder was given; its shapes are named in the message.

    Raises:
        UnsupportedBackboneError: in place of the error.
    """
    try:
        yield
    except (UnsupportedBackboneError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # the code of an unknown encoder may raise anything
        given = [f"{name} {tuple(value.shape)}" for name, value in (inputs or {}).items() if isinstance(value, Tensor)]
        raise UnsupportedBackboneError(
            f"{describe(encoder)} can't be used: it raised {type(error).__name__}: {str(error) or 'no message'}"
            + (f", when it was given {', '.join(given)}" if given else "")
            + ". An encoder is given the data and nothing else. If it needs more, as some parts of larger models do, "
            "choose another type: `python -m modeling_data2vec_generic.capabilities TYPE` says what is possible with "
            "a type."
        ) from error


def _usable_parts(encoder: PreTrainedModel) -> dict[str, PreTrainedModel]:
    """The models of other types inside a model that data2vec can train, by name; of nested ones, the outermost."""
    parts: dict[str, PreTrainedModel] = {}
    for name, module in encoder.named_modules():
        if (
            is_within(name, tuple(parts))
            or not isinstance(module, PreTrainedModel)
            or module.config.model_type == encoder.config.model_type
        ):
            continue
        try:
            _layout_of(module)
        except UnsupportedBackboneError:
            continue
        parts[name] = module
    return parts


def _message_about_parts(encoder: PreTrainedModel, parts: Mapping[str, PreTrainedModel]) -> str:
    """The message that says which part of a model that is made of several models to choose, and how."""
    message = f"{describe(encoder)} is made of several models, and data2vec trains one at a time. "
    known = {name: part for name, part in parts.items() if type(part.config) in MODEL_MAPPING}
    if not known:
        name, part = next(iter(parts.items()))
        return message + (
            f"Choose one of its parts {', '.join(parts)}. AutoModel does not know them by themselves, so in Python "
            f"call AutoModel.register({type(part.config).__name__}, {type(part).__name__}) and pass "
            f"encoder=model.{name} to Data2VecGenericForPreTraining; or choose another type."
        )
    listed = ", ".join(f"{part.config.model_type} (its {name})" for name, part in known.items())
    name, part = next(iter(known.items()))
    return message + (
        f"Choose one of its parts: {listed}. --model_type {part.config.model_type} makes a new one. To go on with "
        f"that of a checkpoint, save it with AutoModel.from_pretrained(CHECKPOINT).{name}.save_pretrained(FOLDER), "
        "and set --model_name_or_path FOLDER."
    )


def _layout_of(encoder: PreTrainedModel) -> BackboneLayout:
    quirks = quirks_of(encoder.config.model_type)
    blocks, stacks, hierarchical = _find_blocks(encoder)
    content = _find_content(encoder, quirks, stacks)
    reads_tokens = isinstance(encoder.get_submodule(content), nn.Embedding)
    width = _output_channels(encoder.get_submodule(blocks[-1])) if hierarchical else _width(encoder)
    return BackboneLayout(
        quirks=quirks,
        blocks=blocks,
        stacks=stacks,
        hierarchical=hierarchical,
        content=content,
        gathered=tuple(
            name
            for name, _ in encoder.named_modules()
            if name.endswith(quirks.gathered_modules or ("\0",)) and is_within(name, stacks)
        ),
        mask_parameter=next(
            (name for name, _ in encoder.named_parameters() if name.split(".")[-1] in MASK_PARAMETERS), None
        ),
        reads_tokens=reads_tokens,
        width=width,
        content_width=_output_channels(encoder.get_submodule(content)) if hierarchical else width,
    )


def is_within(name: str, ancestors: tuple[str, ...]) -> bool:
    """Whether a module or parameter belongs to one of these modules."""
    return any(name.startswith(f"{ancestor}.") for ancestor in ancestors)


def describe(encoder: nn.Module) -> str:
    """The class and the model type of an encoder, for messages."""
    model_type = getattr(getattr(encoder, "config", None), "model_type", None)
    return f"{type(encoder).__name__} (model type {model_type!r})"


def _find_blocks(encoder: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names of the blocks of the main stack, names of all blocks of their class, and whether the encoder has stages.

    The main stack is the `nn.ModuleList` with the most parameters among those whose members are of one class and
    contain other modules; of equal ones, the outermost. If the widths of its members differ, they are stages, and the
    blocks are those of the last stage. If not all lists are as wide as the encoder, only those that are count: a codec
    in front of the blocks may be larger than they are.
    """
    lists = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList)
        and len({type(member) for member in module}) == 1
        and any(True for _ in module[0].children())
    ]
    if not lists or max(map(_size, lists)) == 0:
        raise UnsupportedBackboneError(
            f"{describe(encoder)} has no stack of blocks: no torch.nn.ModuleList whose members are of one class. "
            "data2vec needs an encoder made of such blocks."
        )
    name, main = max(lists, key=_size)
    last_stage = f"{name}.{len(main) - 1}" if _widths_differ(main) else None
    if last_stage is not None and (within := _lists_within(encoder, last_stage)):
        name, main = max(within, key=_size)
        blocks = tuple(f"{name}.{i}" for i in range(len(main)))
        return blocks, blocks, True
    if as_wide := _lists_of_width(lists, _declared_width(encoder)):
        name, main = max(as_wide, key=_size)
    elif last_stage is not None:
        raise UnsupportedBackboneError(
            f"{describe(encoder)} works in stages of different widths, and its last one, {last_stage}, holds no list "
            "of blocks (torch.nn.ModuleList) to take targets from."
        )
    block_class = type(main[0])
    members = {
        name: [f"{name}.{i}" for i in range(len(module))] for name, module in lists if type(module[0]) is block_class
    }
    return tuple(members[name]), tuple(block for blocks in members.values() for block in blocks), False


def _size(named: tuple[str, nn.ModuleList]) -> int:
    return sum(parameter.numel() for parameter in named[1].parameters())


def _widths_differ(modules: nn.ModuleList) -> bool:
    """Whether the first and the last module have different widths, as stages do.

    Their norms and biases are compared by name, and most of them must differ in size.
    """
    widths = [
        {name: len(parameter) for name, parameter in member.named_parameters() if parameter.ndim == 1}
        for member in (modules[0], modules[-1])
    ]
    shared = widths[0].keys() & widths[1].keys()
    return 2 * sum(widths[0][name] != widths[1][name] for name in shared) > len(shared)


def _lists_within(encoder: PreTrainedModel, stage: str) -> list[tuple[str, nn.ModuleList]]:
    return [
        (f"{stage}.{name}" if name else stage, module)
        for name, module in encoder.get_submodule(stage).named_modules()
        if isinstance(module, nn.ModuleList) and len({type(member) for member in module}) == 1
    ]


def _lists_of_width(lists: list[tuple[str, nn.ModuleList]], width: int | None) -> list[tuple[str, nn.ModuleList]]:
    """The lists whose members are all equally wide and have weights with an axis of this width."""
    return [
        (name, module)
        for name, module in lists
        if not _widths_differ(module) and any(width in parameter.shape for parameter in module[-1].parameters())
    ]


def _find_content(encoder: PreTrainedModel, quirks: BackboneQuirks, stacks: tuple[str, ...]) -> str:
    """Name of the content module: the one in the quirks, else one with a known name, else the input embeddings.

    Encoders of spectrograms (Whisper) begin with two convolutions. `get_input_embeddings()` returns the first of them,
    and the content is the output of the second.
    """
    names = [name for name, _ in encoder.named_modules() if name and not is_within(name, stacks)]
    if quirks.content is not None:
        return next(name for name in names if f".{name}".endswith(f".{quirks.content}"))
    for known in CONTENT_MODULES:
        for name in names:
            if name.split(".")[-1] == known:
                return name
    if "conv1" in names and "conv2" in names:
        return "conv2"
    try:
        embeddings = encoder.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        embeddings = None
    found = next((name for name, module in encoder.named_modules() if name and module is embeddings), None)
    found = found or next((name for name in names if name.split(".")[-1] == "patch_embeddings"), None)
    if found is None:
        raise UnsupportedBackboneError(
            f"{describe(encoder)} does not say where its content is embedded: it has no module named "
            f"{', '.join(CONTENT_MODULES)} or patch_embeddings, and get_input_embeddings() is not implemented. "
            "Implement it so that it returns the module that makes the word, patch or frame embeddings."
        )
    return found


def _width(encoder: PreTrainedModel) -> int:
    width = _declared_width(encoder)
    if width is None:
        raise UnsupportedBackboneError(
            f"{describe(encoder)} does not say how wide its blocks are. Add a field hidden_size to its configuration."
        )
    return width


def _declared_width(encoder: PreTrainedModel) -> int | None:
    """Channels of the blocks' output according to the configuration (with stages, of the last one), or `None`."""
    config: Any = encoder.config
    widths = [getattr(config, field, None) for field in WIDTH_FIELDS] + list(
        getattr(config, "hidden_sizes", None) or []
    )[-1:]
    return next((int(width) for width in widths if isinstance(width, int)), None)


def _output_channels(module: nn.Module) -> int:
    """Channels of the output of a module whose last layer is a linear layer or a convolution."""
    return next(parameter.shape[0] for parameter in reversed(list(module.parameters())) if parameter.ndim > 1)


__all__ = [
    "BackboneLayout",
    "UnsupportedBackboneError",
    "describe",
    "explained",
    "find_layout",
    "is_within",
    "naming_parts",
]
