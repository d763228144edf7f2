"""Text, and sequences of residues: the vocabulary, how rows become sequences, and how long these are."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ...cli.flags import Chosen
from ...data.arguments import DataArguments
from ...data.quality.screening import some_rows
from ..plan import Look, Plan, Scale, blocks_of, in_words
from ..tried import Tried

_RESIDUES = re.compile(r"[A-Z*-]{8,}|[a-z*-]{20,}")  # of a whole row: proteins or nucleic acids, without a blank
_SHARE_OF_RESIDUES = 0.95  # of rows, from which they are taken for such sequences
_SENTENCE_END = re.compile(r"[.!?:;。！？…][\"'”’»)\]]*\s*$")
_BYTES_PER_TOKEN = 4  # of text in a vocabulary of some thousand tokens
_TOKENS_PER_ENTRY = 40  # that a vocabulary has at least of its data, on average for each of its entries
_VOCABULARY = (1_024, 8_192)  # smallest and largest; the published models have 50,000
_VOCABULARY_PUBLISHED = 50_000
_LONGEST = {"tiny": 128, "small": 256}  # tokens of a sequence at most; of other sizes 512
_LONGEST_RESIDUES = 256  # residues, which say less than tokens: at most for the two smallest sizes
_LONGEST_OTHERS = 512
_SHORTEST = 32
_STEP = 16  # lengths are multiples of it
_COVERED = 95  # percent of rows that sequences hold as a whole
_SPECIAL = 2  # tokens around a sequence


@dataclass(frozen=True)
class Text(Look):
    """A look at text.

    Args:
        lengths: of the rows that were looked at, in tokens as estimated, or in residues.
        has_labels: whether rows have labels.
        ends: the share of rows that end with the end of a sentence.
    """

    lengths: Sequence[float]
    has_labels: bool
    ends: float

    @property
    def is_residues(self) -> bool:
        return self.kind == "proteins"


def look(raw: Dataset, rows: int | None, args: DataArguments) -> Text:
    texts = [text for text in some_rows(raw)["text"] if text and text.strip()]
    residues = (
        float(np.mean([bool(_RESIDUES.fullmatch(text.strip())) for text in texts] or [False])) >= _SHARE_OF_RESIDUES
    )
    lengths = [len(text) if residues else len(text.encode()) / _BYTES_PER_TOKEN for text in texts] or [1.0]
    return Text(
        kind="proteins" if residues else "text",
        rows=rows,
        per_row=float(np.mean(lengths)),
        lengths=lengths,
        has_labels="label" in raw.column_names,
        ends=float(np.mean([bool(_SENTENCE_END.search(text)) for text in texts] or [False])),
    )


def plan(seen: Text, scale: Scale, tried: Tried, given: Mapping[str, Any]) -> Plan:
    longest = _LONGEST.get(scale.name, _LONGEST_OTHERS)
    if seen.is_residues:
        longest = max(longest, _LONGEST_RESIDUES)
    in_rows, why_rows = _one_row_each(seen, longest, given)
    settings: dict[str, Chosen] = {"line_by_line": Chosen(in_rows, why_rows)}
    if given.get("packing"):
        settings = {}
    if in_rows or given.get("packing"):
        covered = math.ceil((float(np.percentile(seen.lengths, _COVERED)) + _SPECIAL) / _STEP) * _STEP
        length = min(longest, max(_SHORTEST, covered))
        units = "residues" if seen.is_residues else "tokens or so"
        shorter = f", and longer ones would take long on this device at this size: {length}" * (covered > length)
        why = f"{_COVERED}% of the rows have {in_words(max(1, covered - _SPECIAL))} {units} or fewer{shorter}"
    else:
        length, why = longest, f"rows are joined, so sequences are as long as an encoder of {scale} reads in good time"
    settings["max_seq_length"] = Chosen(length, why)
    length = given.get("max_seq_length", length)
    settings |= _vocabulary(seen, scale, given)
    overrides = blocks_of(scale)
    beyond = 0 if tried.longest is None else tried.overrides["max_position_embeddings"] - tried.longest
    overrides["max_position_embeddings"] = length + beyond
    if "embedding_size" in tried.overrides:
        overrides["embedding_size"] = scale.size.width
    if in_rows and not given.get("packing"):
        settings["train_sampling_strategy"] = Chosen("group_by_length", "rows differ in length: it saves padding")
    filled = min(length, seen.per_row + _SPECIAL) if in_rows else length
    samples = seen.rows
    if samples is not None and not in_rows:
        samples = max(1, round(samples * seen.per_row / length))
    return Plan(
        overrides=overrides,
        reason=f"{scale}, {scale.reason}",
        settings=settings,
        samples=samples,
        positions=round(filled),
        longest=length,
    )


def _one_row_each(seen: Text, longest: int, given: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether each row becomes a sequence, and why."""
    if given.get("packing"):
        return False, ""
    if "line_by_line" in given:
        return bool(given["line_by_line"]), ""
    if seen.is_residues:
        return True, "each row is a sequence of residues"
    if seen.has_labels:
        return True, "rows have labels, so each is something of its own"
    if np.median(seen.lengths) > longest:
        return (
            False,
            f"most rows have more than {longest} tokens: they are joined and cut, and nothing of them is lost",
        )
    if seen.ends < 0.5:
        return False, f"{seen.ends:.0%} of the rows end with a sentence, so a sentence goes on in the next row"
    return True, f"{seen.ends:.0%} of the rows end with a sentence, and most fit into a sequence"


def _vocabulary(seen: Text, scale: Scale, given: Mapping[str, Any]) -> dict[str, Chosen]:
    """The tokenizer; none if one is named, and for residues, whose tokenizer is the same for all."""
    if seen.is_residues or "processor_name" in given:
        return {}
    tokens = math.inf if seen.rows is None else seen.rows * seen.per_row
    smallest, largest = _VOCABULARY
    if scale.is_published:
        size, why = _VOCABULARY_PUBLISHED, "that of the published models"
    elif tokens >= largest * _TOKENS_PER_ENTRY:
        size, why = largest, "enough for an encoder of this size"
    else:
        size = max(smallest, 2 ** round(math.log2(max(1.0, tokens / _TOKENS_PER_ENTRY))))
        why = f"there are some {in_words(tokens)} tokens, so that each occurs {_TOKENS_PER_ENTRY} times or so"
    return {
        "train_tokenizer": Chosen(True, "no tokenizer is named, and one of the data's own fits them best"),
        "tokenizer_vocab_size": Chosen(size, why),
    }
