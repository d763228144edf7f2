"""Checks `--metric_for_best_model` before the first step, not at the first evaluation."""

import weakref
from typing import Any

from transformers import TrainerCallback, TrainingArguments

CLOCK = ("runtime", "samples_per_second", "steps_per_second")


class BestMetricCallback(TrainerCallback):
    """Makes sure before the first step that evaluations measure the metric that chooses the best model.

    Args:
        trainer: its `evaluation_metrics()` returns the names, without "eval_", of what an evaluation measures.

    Raises (when training begins):
        ValueError: there is no such metric.
    """

    def __init__(self, trainer: Any):
        self.trainer: Any = weakref.proxy(trainer)  # not a cycle: see ResumeCallback

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if args.metric_for_best_model is None or args.eval_strategy == "no":
            return
        wanted = _with_prefix(args.metric_for_best_model)
        several = self.trainer.eval_dataset if isinstance(self.trainer.eval_dataset, dict) else {}
        prefixes = [f"eval_{name}_" for name in several] or ["eval_"]
        if wanted in {f"{prefix}loss" for prefix in prefixes}:  # every evaluation measures it
            return
        names = [f"{prefix}{name}" for prefix in prefixes for name in (*self.trainer.evaluation_metrics(), *CLOCK)]
        if wanted not in names:
            raise ValueError(
                f"metric_for_best_model={args.metric_for_best_model!r} is not among what evaluations measure: "
                f"{', '.join(sorted(names))}. Choose one of them. knn_accuracy and linear_accuracy of pre-training "
                "need labelled data."
            )


def _with_prefix(name: str) -> str:
    return name if name.startswith("eval_") else f"eval_{name}"
