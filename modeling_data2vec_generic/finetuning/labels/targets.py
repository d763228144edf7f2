"""The choice among the kinds of labels, by --problem_type or by the type of the label column."""

from collections.abc import Mapping
from typing import Any

from datasets import LargeList, List, Value

from .base_target import Target
from .multi_label import MultiLabel
from .regression import Regression
from .single_label import SingleLabel

TARGETS: Mapping[str, type[Target]] = {target.problem_type: target for target in (SingleLabel, MultiLabel, Regression)}


def target_for(feature: Any, problem_type: str | None) -> Target:
    """The target that --problem_type names, else the one for labels of this type.

    Args:
        feature: type of the label column, a feature of `datasets`.
        problem_type: the value of the flag, or None.

    Raises:
        ValueError: there is no target of that name.
    """
    if problem_type is None:
        if isinstance(feature, List | LargeList):
            problem_type = MultiLabel.problem_type
        elif isinstance(feature, Value) and feature.dtype.startswith("float"):
            problem_type = Regression.problem_type
        else:
            problem_type = SingleLabel.problem_type
    if problem_type not in TARGETS:
        raise ValueError(f"problem_type={problem_type!r} is not one of {', '.join(TARGETS)}.")
    return TARGETS[problem_type]()
