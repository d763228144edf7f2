"""The settings of a run with their sources, for its model card and for a dry run."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .. import cli
from ..configuration_data2vec_generic import Data2VecGenericConfig
from ..modalities.presets import published_masks, published_settings
from ..reporting.provenance import CHOSEN, DEFAULT, FLAG, RECIPE, Setting, settings_of
from ..training.arguments import Data2VecTrainingArguments, ObjectiveArguments
from ..training.batch_schedule import SCALED
from .arguments import FINETUNING, PRETRAINING

if TYPE_CHECKING:
    from ..finetuning.tasks import Task


def pretraining_settings(
    flags: cli.Flags,
    parsed: Sequence[Any],
    modality: str,
    config: Data2VecGenericConfig,
    masks: Mapping[str, Any],
    used: Data2VecTrainingArguments,
) -> list[Setting]:
    """All settings of a pre-training run.

    Args:
        flags: what was given.
        parsed: an instance of each of the dataclasses of flags.
        modality: the modality of the data.
        config: that of the model.
        masks: settings of masks, by the names of `MaskArguments`.
        used: the training arguments of the trainer, in which some are scaled to the batch.
    """
    _, _, mask_args, objective_args, training_args = parsed
    objective = {field.name for field in fields(ObjectiveArguments)}
    encoder_config: Any = config.encoder_config
    of_config = {name: value for name, value in config.to_dict().items() if name in objective}
    presets = {
        DEFAULT: objective,
        f"objective {objective_args.objective}": {
            *published_settings(objective_args.objective, encoder_config, modality),
            *published_masks(mask_args.mask_strategy, objective_args.objective, modality),
        },
    }
    scaled = SCALED if training_args.reference_batch_size is not None else ()
    resolved = {"modality": modality} | of_config | dict(masks) | {name: getattr(used, name) for name in scaled}
    reasons = {name: setting.reason for name, setting in flags.chosen.items()}
    return settings_of(_given_by(flags, PRETRAINING), PRETRAINING, parsed, presets, resolved, scaled, reasons)


def finetuning_settings(flags: cli.Flags, parsed: Sequence[Any], task: "Task") -> list[Setting]:
    """All settings of a fine-tuning run that its task reads; flags and what was parsed as above."""
    from ..finetuning.tasks import TASKS  # here, since tasks need the packages of all kinds of data

    presets = {f"default of {task.name}": task.defaults.keys()}
    resolved = {"modality": task.modality_name, "task": task.name}
    settings = settings_of(_given_by(flags, FINETUNING), FINETUNING, parsed, presets, resolved)
    of_others = {name for other in TASKS.values() for name in other.own_flags} - set(task.own_flags)
    return [setting for setting in settings if setting.name not in of_others]


def _given_by(flags: cli.Flags, groups: Sequence[Any]) -> dict[str, str]:
    """By the names of the settings that were given, who gave them."""
    recipe = RECIPE if flags.recipe is None else f"{RECIPE} {flags.recipe.name}"
    of_recipe = dict.fromkeys(cli.names_in(flags.of_recipe, groups), recipe)
    chosen = dict.fromkeys(flags.chosen, CHOSEN)
    return chosen | of_recipe | dict.fromkeys(cli.names_in(flags.given, groups), FLAG)
