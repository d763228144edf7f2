"""What a recipe says of the training of an encoder, which is taken over for encoders of other sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from ..cli.flags import Chosen
from ..cli.recipes import recipe_called
from ..masking.sampler import MaskArguments
from ..training.arguments import ObjectiveArguments
from ..training.encoders import parse_overrides
from .constants import KINDS

MASKS = tuple(field.name for field in fields(MaskArguments))
_OBJECTIVE = tuple(field.name for field in fields(ObjectiveArguments))
_OPTIMIZER = ("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm")
_OF_WIDTH = ("decoder_dim",)  # what follows from the encoder's width


@dataclass(frozen=True)
class Tried:
    """Settings of a recipe for encoders of one size.

    Args:
        model_type: of the encoder.
        overrides: of its configuration, for an encoder and data of the recipe's size.
        longest: of text, the length of its sequences; else None.
        batch: samples per optimizer step.
        learning_rate: at this batch.
        most_steps: of a run.
        objective: by flag, the objective with its settings and those of masks.
        optimizer: by flag, settings of the optimizer.
        top_share: the share of the encoder's blocks that targets are made of; None if the preset says it.
        teacher: by the most steps of a run that they are for, the teacher's decay at the beginning and at the end;
            None if the kind of data says it.
        reason: where all of this comes from, in words.
    """

    model_type: str
    overrides: Mapping[str, Any]
    longest: int | None
    batch: int
    learning_rate: float
    most_steps: int
    objective: Mapping[str, Chosen]
    optimizer: Mapping[str, Chosen]
    top_share: float | None
    teacher: Mapping[float, tuple[float, float]] | None
    reason: str

    def is_objective_of(self, given: Mapping[str, Any]) -> bool:
        """Whether a run with these settings has the objective of the recipe, and no other one that is given."""
        own = self.objective["objective"].value
        return bool(given.get("objective", own) == own)


@cache
def tried_with(kind: str, size: str) -> Tried:
    """The settings for an encoder of a size (a key of `SIZES`) for a kind of data (a key of `KINDS`)."""
    of_size = KINDS[kind].training[size]
    recipe = recipe_called(of_size.recipe, "pretrain")
    written = recipe.settings
    reason = f"as in the recipe {recipe.short_name}"
    values = {name: written[name] for name in (*_OBJECTIVE, *MASKS) if name in written and name not in _OF_WIDTH}
    top = values.pop("average_top_k_layers", None)
    own = parse_overrides(written["config_overrides"])
    quicker = f"not as in the recipe {recipe.short_name}: so a step is quicker"
    chosen = {name: Chosen(value, reason) for name, value in values.items()}
    chosen |= {name: Chosen(value, quicker) for name, value in of_size.changes.items()}
    return Tried(
        model_type=written["model_type"],
        overrides=own,
        longest=written.get("max_seq_length"),
        batch=of_size.batch or written.get("reference_batch_size") or written["per_device_train_batch_size"],
        learning_rate=of_size.learning_rate or written["learning_rate"],
        most_steps=of_size.most_steps or written["max_steps"],
        objective=chosen,
        optimizer={name: Chosen(written[name], reason) for name in _OPTIMIZER if name in written},
        top_share=None if top is None else top / own["num_hidden_layers"],
        teacher=of_size.teacher,
        reason=reason,
    )
