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

# Modules that turn raw input into the content of each position; where an encoder has one, its input embeddings are
# something else or an earlier step.
CONTENT_MODULES = ("feature_projection", "subsampling", "value_embedding")
WIDTH_FIELDS = ("hidden_size", "d_model", "embed_dim")


class UnsupportedBackboneError(ValueError):
    """The encoder lacks something that data2vec needs; the message says what, and what to do."""


@dataclass(frozen=True)
class BackboneLayout:
    """Where data2vec reaches into an encoder, as module names, which hold for the student and the teacher alike.

    Args:
        quirks: what is known of this model type.
        blocks: the main stack, in order; its top K outputs make the target. Of an encoder in stages, the last stage's.
        stacks: every block of the same class, e.g. those of a prenet in front of the main stack.
        hierarchical: the encoder works in stages of different widths.
        content: the module whose output is the content of each position, before positions are added.
        gathered: modules inside the blocks whose output must be gathered with the sequence.
        mask_parameter: the encoder's own mask embedding, if it has one.
        reads_tokens: the content is looked up from token ids.
        width: C, channels of the blocks' output.
        content_width: E, channels at the content module.
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
    """Look at an encoder's structure.

    Raises:
        UnsupportedBackboneError: there is no stack of blocks, no module that embeds the content, or no known width; of
            a model that is made of several, the message names those that can be used.
    """
    with naming_parts(encoder), explained(encoder):
        return _layout_of(encoder)


@contextmanager
def naming_parts(encoder: PreTrainedModel) -> Iterator[None]:
    """Has the refusal of a model that is made of several say which of them can be used.

    Raises:
        UnsupportedBackboneError: the refusal, or that in place of it.
    """
    try:
        yield
    except UnsupportedBackboneError as error:
        if parts := _usable_parts(encoder):
            raise UnsupportedBackboneError(_choice(encoder, parts)) from error
        raise


@contextmanager
def explained(encoder: PreTrainedModel, inputs: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turns whatever an encoder's own code raises while it is looked at into one error, which says what the encoder
    is, what happened, and what to do. Running out of memory says nothing about an encoder and stays what it is.

    Args:
        inputs: what the encoder is given, for the message.

    Raises:
        UnsupportedBackboneError: instead of any other error.
    """
    try:
        yield
    except (UnsupportedBackboneError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever an encoder of unknown kind raises
        given = [f"{name} {tuple(value.shape)}" for name, value in (inputs or {}).items() if isinstance(value, Tensor)]
        raise UnsupportedBackboneError(
            f"{describe(encoder)} can't be examined: it raised {type(error).__name__}: {str(error) or 'no message'}"
            + (f", when it was given {', '.join(given)}" if given else "")
            + ". An encoder is given what the data hold. If it needs more, as some parts of larger models do, choose "
            "another type: `python -m modeling_data2vec_generic.capabilities TYPE` says what is possible with one."
        ) from error


def _usable_parts(encoder: PreTrainedModel) -> dict[str, PreTrainedModel]:
    """The outermost models of other types within a model in which data2vec finds all that it needs, by name."""
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


def _choice(encoder: PreTrainedModel, parts: Mapping[str, PreTrainedModel]) -> str:
    """What to do about a model that is made of several."""
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
    """How an encoder is called in messages."""
    model_type = getattr(getattr(encoder, "config", None), "model_type", None)
    return f"{type(encoder).__name__} (model type {model_type!r})"


def _find_blocks(encoder: PreTrainedModel) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names of the main stack and of every block of its class, and whether it is the last of several stages.

    The main stack is the largest list of modules of one class that are more than a single layer (outermost on ties).
    Where its members are of different widths they are stages, and the blocks are those of the last one. What stands
    in front of the blocks, such as a codec, may be larger than they are, but is not as wide as the encoder.
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
    """Whether most norms and biases that the first and the last member share by name differ in size, as in stages."""
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
    """Those whose members are of one width and have weights with that many channels."""
    return [
        (name, module)
        for name, module in lists
        if not _widths_differ(module) and any(width in parameter.shape for parameter in module[-1].parameters())
    ]


def _find_content(encoder: PreTrainedModel, quirks: BackboneQuirks, stacks: tuple[str, ...]) -> str:
    """What the quirks says, else a module known by its name, else the input embeddings.

    Encoders of spectrograms (Whisper) have two convolutions in front, of which `get_input_embeddings()` is the first.
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
            f"{describe(encoder)} does not say how wide its blocks are. Give its configuration a field hidden_size."
        )
    return width


def _declared_width(encoder: PreTrainedModel) -> int | None:
    """Channels of the blocks' output, of the last stage if there are several, if the configuration says so."""
    config: Any = encoder.config
    widths = [getattr(config, field, None) for field in WIDTH_FIELDS] + list(
        getattr(config, "hidden_sizes", None) or []
    )[-1:]
    return next((int(width) for width in widths if isinstance(width, int)), None)


def _output_channels(module: nn.Module) -> int:
    """Channels that come out of a module whose last layer is a linear layer or a convolution."""
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
