"""Where the settings of a run come from: the command line, a recipe, a preset, or a default.

Dry runs and model cards show settings with their sources.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from transformers import TrainingArguments

from ..training.checkpointing.same_run import ARGUMENTS

FLAG = "flag"
RECIPE = "recipe"  # the beginning of the source, before the recipe's name
CHOSEN = "chosen"  # by the run, for its data and its device
DEFAULT = "default"
OF_TRANSFORMERS = "default of transformers"
ADJUSTED = "set by the run"
HIDDEN = "(not shown)"
_SECRET = ("hub_token",)
_DEFAULTS = (DEFAULT, OF_TRANSFORMERS, ADJUSTED)

_OF_TRANSFORMERS = {field.name: field for field in dataclasses.fields(TrainingArguments)}

# Training arguments that decide what is learned. All others are about speed, memory, logs, saves and the Hub.
_DECISIVE = {
    *ARGUMENTS,
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("auto_find_batch_size", "reference_batch_size", "metric_for_best_model", "load_best_model_at_end"),
    *("probe_train_samples", "probe_test_samples", "stop_on_collapse", "max_bad_steps", "neftune_noise_alpha"),
}
# Of the other settings, those that change nothing in the result.
_WITHOUT_EFFECT = {"trust_remote_code", "check_data", "preprocessing_num_workers"}
_PICTURES = ("vision", "video")
# Settings of some kinds of data alone.
_OF_ONE_KIND = {
    **dict.fromkeys(
        ("max_seq_length", "line_by_line", "packing", "train_tokenizer", "tokenizer_vocab_size"), ("text",)
    ),
    **dict.fromkeys(("crop_scale_min", "horizontal_flip"), _PICTURES),
    **dict.fromkeys(("image_mean", "image_std", "black_level", "white_level"), _PICTURES),
    **dict.fromkeys(("min_duration_in_seconds", "max_duration_in_seconds", "array_sampling_rate"), ("speech",)),
}
_OF_DECODER = (
    *("decoder_dim", "decoder_layers", "decoder_kernel_size", "decoder_groups", "decoder_residual"),
    *("decoder_projection_layers", "mask_noise_std"),
)
# By setting, other ones with the values beside which the setting has an effect.
_EFFECTIVE_WITH: dict[str, dict[str, tuple[Any, ...]]] = {
    "shuffle_buffer_size": {"streaming": (True,)},
    "validation_split_percentage": {"streaming": (False,), "validation_file": (None,), "validation_dir": (None,)},
    **dict.fromkeys(_OF_DECODER, {"predictor": ("conv",)}),
    "label_smoothing_factor": {"objective": ()},  # pre-training has no labels
    "mask_length": {"mask_strategy": ("span", "block", "inverse_block")},
    "mask_adjust": {"mask_strategy": ("block", "inverse_block")},
    "mask_exact": {"mask_strategy": ("span",)},
    "num_train_epochs": {"max_steps": (-1,)},
    "per_device_train_batch_size": {"max_tokens_per_batch": (None,)},
}


@dataclass(frozen=True)
class Setting:
    """A setting of a run.

    Args:
        name: the flag, without dashes.
        value: what the run uses, as it is written in a recipe.
        source: where it comes from, in words, such as "flag", "recipe digits.json" or "default".
        group: the title of the settings that it belongs to.
        reason: why it has this value, if the run chose it; else "".
    """

    name: str
    value: Any
    source: str
    group: str
    reason: str = ""

    @property
    def origin(self) -> str:
        """Its source, with the reason if there is one."""
        return f"{self.source}: {self.reason}" if self.reason else self.source

    @property
    def is_chosen(self) -> bool:
        """Whether someone chose it for this run or for runs of its kind: it is no default."""
        return self.source not in _DEFAULTS

    @property
    def is_given(self) -> bool:
        """Whether it was given for this run, by a flag or a recipe."""
        return self.source.startswith((FLAG, RECIPE))


def settings_of(
    given: Mapping[str, str],
    groups: Sequence[type],
    parsed: Sequence[Any],
    presets: Mapping[str, Collection[str]],
    resolved: Mapping[str, Any],
    scaled: Collection[str] = (),
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> list[Setting]:
    """All settings of a run with their sources, in the order of the flags.

    Args:
        given: by name, who gave a setting its value: FLAG, CHOSEN, or a recipe in words.
        groups: the dataclasses whose fields are the flags.
        parsed: an instance of each, as the run uses it.
        presets: by what they are called, the names of the settings that presets give a value to, later ones in place
            of earlier ones. Those that are given come before all of them.
        resolved: values that the run uses, by name, where they are not those of `parsed`.
        scaled: names of settings that the run has scaled to its batch.
        reasons: by the name of a setting that the run chose, why.
    """
    of_presets = {name: preset for preset, names in presets.items() for name in names}
    found = []
    for group, values in zip(groups, parsed, strict=True):
        for field in dataclasses.fields(group):
            value = plain(resolved.get(field.name, getattr(values, field.name)))
            value = HIDDEN if field.name in _SECRET and value else value
            source = given.get(field.name) or of_presets.get(field.name) or _of_default(field, value)
            source += ", scaled to the batch" if field.name in scaled else ""
            reason = reasons.get(field.name, "") if source.startswith(CHOSEN) else ""
            found.append(Setting(field.name, value, source, title_of(group), reason))
    return found


def title_of(group: type) -> str:
    """What the settings of a dataclass are called: "mask" for `MaskArguments`."""
    return group.__name__.removesuffix("Arguments").removeprefix("Data2Vec").lower()


def _of_default(field: Any, value: Any) -> str:
    """The source of a value that nobody gave."""
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is not None and plain(default) != value:
        return ADJUSTED
    theirs = _OF_TRANSFORMERS.get(field.name)
    return OF_TRANSFORMERS if theirs is not None and theirs.default == field.default else DEFAULT


def plain(value: Any) -> Any:
    """A setting as it is written in a recipe: enumerations by their values, and objects by their contents."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def shown(value: Any) -> str:
    """A setting as people read it: numbers without needless digits, lists by their elements, spaces after commas."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    text = str(value)
    return text if " " in text else text.replace(",", ", ")  # a long word could not be broken


def chosen(settings: Sequence[Setting]) -> list[Setting]:
    """Those that are no defaults. Of a preset, those that have an effect beside the other settings."""
    values = {setting.name: setting.value for setting in settings}
    return [
        setting for setting in settings if setting.is_chosen and (setting.is_given or has_effect(setting.name, values))
    ]


def settings_that_matter(settings: Sequence[Setting]) -> list[Setting]:
    """Those that have a say in what a run comes to.

    Left out are settings without a value or off by default, those that have no effect beside the others of the run
    (the decoder's without a decoder, those of streams without a stream), and those about logs, saves and folders.
    """
    values = {setting.name: setting.value for setting in settings}
    return [
        setting
        for setting in settings
        if setting.value is not None
        and (setting.is_chosen or setting.value is not False)
        and (setting.group not in ("training", "finetuning") or setting.name in _DECISIVE)
        and setting.name not in _WITHOUT_EFFECT
        and has_effect(setting.name, values)
    ]


def has_effect(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a setting has an effect beside the other settings of a run.

    Args:
        values: all settings by name. Of those that a run does not have, nothing is known.
    """
    if (kind := _OF_ONE_KIND.get(name)) is not None:
        return values.get("modality") in (None, *kind)
    if name == "max_steps":
        return bool(values[name] > 0)
    needed = _EFFECTIVE_WITH.get(name, {})
    return all(other not in values or values[other] in fitting for other, fitting in needed.items())
