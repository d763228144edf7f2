"""What the conversion needs to know of one kind of checkpoint."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

Weights = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]
QKV = ("query", "key", "value")
_FIELDS = {"i": r"\d+", "next": r"\d+", "w": "weight|bias", "qkv": "|".join(QKV), "name": r"\w+"}


@dataclass(frozen=True)
class Settings:
    """What a checkpoint says of the model that it is of, as dictionaries; both are empty if it says nothing.

    Args:
        model: of the model.
        task: of the data.
    """

    model: dict[str, Any]
    task: dict[str, Any]

    def of_model(self, *path: str, default: Any = None) -> Any:
        """A setting of the model, e.g. of_model("transformer", "encoder", "layers"); `default` if it is not there."""
        found: Any = self.model
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return default if found is None else found


@dataclass(frozen=True)
class Head:
    """Layers that a fine-tuned checkpoint has on top of the encoder, for which transformers has a class.

    Args:
        rules: as in `Format`; names of the result that belong to the encoder begin with `encoder.`.
        model_class: the class with these layers.
        config: fields of its configuration that follow from the weights.
    """

    rules: Rules
    model_class: type[PreTrainedModel]
    config: Callable[[Weights], dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """One kind of checkpoint.

    Args:
        title: its name in messages.
        modality: "text", "vision" or "speech".
        anchor: name of a weight that only this format has. What precedes it in a fine-tuned checkpoint, precedes the
            names of all weights of the encoder.
        rules: pairs of names, that in the checkpoint and that in the model. In both, {i} stands for a number, {next}
            for the number after it, {w} for weight or bias. {name} is any word of the checkpoint's name. A model's
            name with {qkv} takes a third of the weight for each of query, key and value.
        left_out: regular expressions for names of weights that the encoder has no place for: heads of pre-training,
            decoders, and buffers that are computed anew.
        zeros: for weights of the encoder that such a checkpoint lacks because it computes as if they were zero: the
            name, and that of a weight whose last axis is as long.
        model_class: of the encoder.
        arguments: for the class, besides the configuration.
        config: fields of the configuration, from weights and settings; `None` for those that both leave open.
        expected: settings without which the encoder would compute something else, by their path in the model's
            settings. A checkpoint that sets another value is refused.
        head: what can be converted of a fine-tuned checkpoint.
    """

    title: str
    modality: str
    anchor: str
    rules: Rules
    model_class: type[PreTrainedModel]
    config: Callable[[Weights, Settings], dict[str, Any]]
    arguments: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    zeros: dict[str, str] = field(default_factory=dict)
    expected: dict[tuple[str, ...], Any] = field(default_factory=dict)
    head: Head | None = None


def renamed(weights: Weights, rules: Rules) -> tuple[Weights, set[str]]:
    """Weights under the model's names, and the names that are in no rule.

    Raises:
        ValueError: two weights would get the same name.
    """
    found: Weights = {}
    unmatched = set()
    for name, weight in weights.items():
        target, fields = _matched(name, rules)
        if target is None:
            unmatched.add(name)
            continue
        parts = dict(zip(QKV, weight.chunk(3), strict=True)) if "{qkv}" in target else {"": weight}
        pieces = {target.format(**fields, qkv=part): piece for part, piece in parts.items()}
        if found.keys() & pieces.keys():
            raise ValueError(
                f"The checkpoint has several weights for {', '.join(pieces)}, one of which is {name}, and one is "
                "expected. Remove those of the heads that you do not need."
            )
        found |= pieces
    return found, unmatched


def original_name(name: str, rules: Rules) -> str:
    """The name that a weight of the model has in the checkpoint; its own name if it is in no rule."""
    source, fields = _matched(name, tuple((target, source) for source, target in rules))
    return name if source is None else source.format(**{"name": "*"} | fields)


def _matched(name: str, rules: Rules) -> tuple[str | None, dict[str, Any]]:
    """The other side of the first rule that a name matches, and what its fields stand for."""
    for pattern, other in rules:
        match = _expression(pattern).fullmatch(name)
        if match is not None:
            fields: dict[str, Any] = match.groupdict()
            if "next" in fields:
                fields["i"] = int(fields["next"]) - 1
            elif "i" in fields:
                fields["next"] = int(fields["i"]) + 1
            return other, {field: value for field, value in fields.items() if field != "qkv"}
    return None, {}


@cache
def _expression(pattern: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", pattern)  # text, field, text, field, ...
    fields = [f"(?P<{field}>{_FIELDS[field]})" for field in parts[1::2]]
    return re.compile("".join(re.escape(text) + field for text, field in zip(parts[::2], [*fields, ""], strict=True)))


def depth_of(weights: Weights, stack: str) -> int:
    """How many blocks there are under the names `stack.0.`, `stack.1.`, ..."""
    pattern = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    return 1 + max((int(match[1]) for name in weights if (match := pattern.match(name))), default=-1)


def convolutions(spec: str) -> list[tuple[int, int, int]]:
    """Channels, kernel and stride of each convolution, from fairseq's "[(512, 10, 5)] + [(512, 3, 2)] * 4".

    Raises:
        ValueError: it is something else than lists, their sums and their multiples.
    """

    def value(node: ast.expr) -> list:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return value(node.left) * ast.literal_eval(node.right)
        return list(ast.literal_eval(node))

    return [(channels, kernel, stride) for channels, kernel, stride in value(ast.parse(spec, mode="eval").body)]


__all__ = [
    "Format",
    "Head",
    "Rules",
    "Settings",
    "Weights",
    "convolutions",
    "depth_of",
    "original_name",
    "renamed",
]
