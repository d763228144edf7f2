"""Where the settings of a run come from: the command line, a recipe, a preset, or a default.

Dry runs and model cards show settings with their sources.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from transformers import TrainingArguments

COMMAND_LINE = "command line"
DEFAULT = "default"
OF_TRANSFORMERS = "default of transformers"
ADJUSTED = "set by the run"
_DEFAULTS = (DEFAULT, OF_TRANSFORMERS, ADJUSTED)

_OF_TRANSFORMERS = {field.name: field for field in dataclasses.fields(TrainingArguments)}


@dataclass(frozen=True)
class Setting:
    """A setting of a run.

    Args:
        name: the flag, without dashes.
        value: what the run uses, as it is written in a recipe.
        source: where it comes from, in words, such as "command line", "recipe digits.json" or "default".
        group: the title of the settings that it belongs to.
    """

    name: str
    value: Any
    source: str
    group: str

    @property
    def is_chosen(self) -> bool:
        """Whether someone chose it for this run or for runs of its kind: it is no default."""
        return self.source not in _DEFAULTS


def settings_of(
    given: Mapping[str, str],
    groups: Sequence[type],
    parsed: Sequence[Any],
    presets: Mapping[str, Collection[str]],
    resolved: Mapping[str, Any],
    scaled: Collection[str] = (),
) -> list[Setting]:
    """All settings of a run with their sources, in the order of the flags.

    Args:
        given: by name, who gave a setting its value: COMMAND_LINE, or a recipe in words.
        groups: the dataclasses whose fields are the flags.
        parsed: an instance of each, as the run uses it.
        presets: by what they are called, the names of the settings that presets give a value to, later ones in place
            of earlier ones. Those that are given come before all of them.
        resolved: values that the run uses, by name, where they are not those of `parsed`.
        scaled: names of settings that the run has scaled to its batch.
    """
    of_presets = {name: preset for preset, names in presets.items() for name in names}
    found = []
    for group, values in zip(groups, parsed, strict=True):
        for field in dataclasses.fields(group):
            value = plain(resolved.get(field.name, getattr(values, field.name)))
            source = given.get(field.name) or of_presets.get(field.name) or _of_default(field, value)
            source += ", scaled to the batch" if field.name in scaled else ""
            found.append(Setting(field.name, value, source, title_of(group)))
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
    """A setting as people read it: numbers without needless digits, lists by their elements."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    return str(value)


def chosen(settings: Iterable[Setting]) -> list[Setting]:
    """Those that are no defaults."""
    return [setting for setting in settings if setting.is_chosen]
