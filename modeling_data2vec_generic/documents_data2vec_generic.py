"""Sequences that hold several documents, none of which sees another.

A batch says by `document_ids`, (B, T), which document of its sequence each position belongs to: 1, 2, ... and 0 for
padding, which is a document of its own here. The positions of a document are consecutive. From these numbers follow
the attention masks of the blocks, the positions, which begin anew in each document, the statistics of the targets (see
`objective_data2vec_generic.normalize`) and the place of the documents in the convolutional decoder.

Shapes: B samples, M masks per sample, R = B * M rows, T positions, D the largest number of documents in a sample.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .backbone_data2vec_generic import hooked
from .float32_copy_data2vec_generic import RUNS_EVERYWHERE, float32_copy
from .inputs_data2vec_generic import first_sample, main_input
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe
from .measurements_data2vec_generic import BackboneMeasurements, differ, encode, measuring

MASK, POSITIONS = "attention_mask", "position_ids"
# D is rounded up to a multiple of this, so that the decoder is given few different shapes.
DOCUMENTS_STEP = 8


@dataclass(frozen=True)
class DocumentSeam:
    """How an encoder is told of documents, which was found out by trying.

    Args:
        first_position: the number of a document's first position; `None` if the encoder is given no positions, since
            its attention knows distances only.
        multiplies: whether attention masks of floats are 1 where a key is seen and 0 where it is hidden. Else they
            are added to the scores: 0, and the smallest number.
    """

    first_position: int | None
    multiplies: bool

    def inputs(self, documents: Tensor) -> dict[str, Tensor]:
        """The encoder's further inputs, for documents (B, T)."""
        if self.first_position is None:
            return {}
        return {POSITIONS: places_in_documents(documents) + self.first_position}


def places_in_documents(documents: Tensor) -> Tensor:
    """(B, T): for each position its place in its document, 0, 1, ..."""
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(begins, places, 0).cummax(1).values


@contextmanager
def documents_apart(
    encoder: PreTrainedModel, layout: BackboneLayout, documents: Tensor, seam: DocumentSeam
) -> Iterator[None]:
    """In one forward pass, positions attend to those of their own document only.

    The attention mask that each block is given, which may hide padding or what is far away, hides other documents too.
    To run the blocks on visible positions, enter `visible_only` within this context.

    Args:
        documents: (B, T). The first block may be given B rows, or R rows, M for each sample.
    """
    apart: dict[int, tuple[Any, Tensor]] = {}  # the reference to a mask keeps its id from being reused
    pairs: list[tuple[Tensor, Tensor]] = []  # which positions are of one document, and which are padding

    def enter(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = list(inspect.signature(block.forward).parameters)
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        mask, hidden = values.get(MASK), values[names[0]]
        if not pairs:
            rows = documents.repeat_interleave(len(hidden) // len(documents), 0)
            same = rows.unsqueeze(1) == rows.unsqueeze(2)
            pairs.append((same.unsqueeze(1), (rows == 0).unsqueeze(1).unsqueeze(1)))
        if id(mask) not in apart:
            apart[id(mask)] = mask, _hiding(mask, *pairs[0], seam.multiplies, hidden)
        values[MASK] = apart[id(mask)][1]
        return tuple(values.pop(name) for name in names[: len(args)]), values

    with ExitStack() as stack:
        for name in layout.stacks:
            stack.enter_context(hooked(encoder.get_submodule(name).register_forward_pre_hook, enter, with_kwargs=True))
        yield


def _hiding(mask: Tensor | None, same: Tensor, padding: Tensor, multiplies: bool, hidden: Tensor) -> Tensor:
    """A block's attention mask that also hides other documents.

    Args:
        mask: (B or 1, H or 1, T or 1, T), or `None`.
        same: (B, 1, T, T) bool, True where two positions are of one document.
        padding: (B, 1, 1, T) bool.
        hidden: the block's input, whose dtype a new mask has.
    """
    # Padding sees padding, which a mask may hide: else it would see nothing.
    both = padding & same
    if mask is not None and mask.dtype == torch.bool:
        return same & (mask | both)
    if mask is None:
        mask = hidden.new_full((), 1.0 if multiplies else 0.0)
    if multiplies or not mask.is_floating_point():
        return mask.masked_fill(both, 1).masked_fill(~same, 0)
    return mask.masked_fill(both, 0.0).masked_fill(~same, torch.finfo(mask.dtype).min)


def document_seam(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    encoder_copy: PreTrainedModel | None = None,
) -> DocumentSeam:
    """Find out how an encoder keeps documents apart, on one sample that is cut into three documents.

    What it makes of each document must be the same as if it read that document alone.

    Args:
        encoder, layout, inputs, encoder_copy: see `measure`. The copy is tested.
        measurements: what `measure` returned.

    Raises:
        UnsupportedBackboneError: it does not keep them apart in any way that is known.
        ValueError: a weight holds NaN or infinity.
    """
    found = _seam_or_fault(encoder, layout, measurements, inputs, encoder_copy)
    if isinstance(found, DocumentSeam):
        return found
    raise UnsupportedBackboneError(
        f"Documents can't be packed into sequences for {describe(encoder)}: {found}. Leave --packing out (or give no "
        "document_ids): rows are then joined, and positions attend to all of a sequence. With --line_by_line each row "
        "is a sequence of its own."
    )


def document_fault(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    encoder_copy: PreTrainedModel | None = None,
) -> str | None:
    """Why `document_seam` raises an error, as a part of a sentence; `None` if it does not."""
    found = _seam_or_fault(encoder, layout, measurements, inputs, encoder_copy)
    return None if isinstance(found, DocumentSeam) else found


def _seam_or_fault(
    encoder: PreTrainedModel,
    layout: BackboneLayout,
    measurements: BackboneMeasurements,
    inputs: Mapping[str, Any],
    encoder_copy: PreTrainedModel | None,
) -> DocumentSeam | str:
    attention = encoder.config._attn_implementation
    if not layout.reads_tokens or measurements.prefix:
        return "it does not read a sequence of tokens"
    if attention not in RUNS_EVERYWHERE:
        return f"attention {attention!r} takes no mask of pairs of positions; attn_implementation='sdpa' does"
    if any(MASK not in inspect.signature(encoder.get_submodule(name).forward).parameters for name in layout.stacks):
        return f"its blocks take no {MASK}"
    encoder = encoder_copy or float32_copy(encoder)
    tokens = first_sample(inputs)[main_input(encoder)]
    length = tokens.shape[1]
    sizes = [length // 2, length // 3, length - length // 2 - length // 3]
    documents = torch.arange(1, 4, device=tokens.device).repeat_interleave(
        torch.tensor(sizes, device=tokens.device), output_size=length
    )
    fault = "what it makes of a document in a packed sequence is not what it makes of it alone"

    def run(ids: Tensor, further: Mapping[str, Tensor]) -> Tensor:
        given = {main_input(encoder): ids, **further}
        return encode(encoder, layout, given, ids.shape[1], takes_last_block=True)[:, : ids.shape[1]]

    with measuring(encoder):
        try:
            alone = [run(part, {}) for part in tokens.split(sizes, 1)]
            for seam in _candidates(encoder):
                with documents_apart(encoder, layout, documents.unsqueeze(0), seam):
                    try:
                        packed = run(tokens, seam.inputs(documents.unsqueeze(0))).split(sizes, 1)
                    except (IndexError, RuntimeError, TypeError, ValueError) as error:
                        fault = f"its blocks do not run with a mask of pairs ({type(error).__name__}: {error})"
                        continue
                wrong = [differ(one, other) for one, other in zip(packed, alone, strict=True)]
                if not any(wrong):
                    return seam
                if not wrong[0] and POSITIONS not in inspect.signature(encoder.forward).parameters:
                    fault = f"it numbers the positions of a whole sequence, and takes no {POSITIONS}"
        except torch.OutOfMemoryError:  # it says nothing about the encoder
            raise
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            return f"it does not run on a part of a text ({type(error).__name__}: {error})"
    return fault


def _candidates(encoder: PreTrainedModel) -> list[DocumentSeam]:
    """What to try, in this order. Encoders like RoBERTa number positions from behind the index of padding."""
    firsts: list[int | None] = [None]
    if POSITIONS in inspect.signature(encoder.forward).parameters:
        offsets = {
            module.padding_idx + 1
            for name, module in encoder.named_modules()
            if isinstance(module, torch.nn.Embedding) and "position" in name and module.padding_idx is not None
        }
        firsts = [0, *sorted(offsets), None]
    return [DocumentSeam(first, multiplies) for first in firsts for multiplies in (False, True)]


def spread_out(documents: Tensor, most: int, gap: int) -> tuple[Tensor, int]:
    """Where positions stand in a longer sequence that has empty places between documents.

    Args:
        documents: (B, T).
        most: D.
        gap: number of empty places in front of each document but the first.

    Returns:
        (B, T), the place of each position, which for all padding is the last one, and the length of the longer
        sequence.
    """
    steps = -(-max(most - 1, 0) // DOCUMENTS_STEP) * DOCUMENTS_STEP
    last = documents.shape[1] + steps * gap
    places = torch.arange(documents.shape[1], device=documents.device) + (documents - 1) * gap
    return torch.where(documents > 0, places, last), last + 1


__all__ = [
    "DocumentSeam",
    "document_fault",
    "document_seam",
    "documents_apart",
    "places_in_documents",
    "spread_out",
]
