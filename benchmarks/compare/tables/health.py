"""The verdict on the health of a run beside what the probe says: short runs with good and bad settings.

Beside them stand the runs of all other tables.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_data2vec_generic import pretrain

from .. import agreement
from ..rows import KEPT, ROOT, read
from ..table import Outcome, Row, Run, Table
from ..training import QUIET, last_loss, looks_in

LOOKS = 5  # besides that before the first step
RECIPE, DEFAULTS = "recipe", "defaults"
SHORT = (10, 30)  # steps, besides those of the data
DEFAULT_STEPS = (10, 30, 100)


@dataclass(frozen=True)
class Small:
    """Data for short runs.

    Args:
        recipe: their recipe in `examples/`.
        steps: of a run.
        changes: flags that make its steps and its probe shorter.
    """

    recipe: str
    steps: int
    changes: Mapping[str, Any]


PROBED = {"probe_train_samples": 500, "probe_test_samples": 500, "max_eval_samples": 500}
LOCATIONS = {
    "train_file": "data/protein_locations/train.parquet",
    "validation_file": "data/protein_locations/test.parquet",
    "text_column_name": "sequence",
    "label_column_name": "place",
}
SMALL_PATCHES = "image_size=28,patch_size=7,num_channels=3,hidden_size=96,num_hidden_layers=4,num_attention_heads=4"
DATA = {
    "digits": Small("vision/digits.json", 60, {"per_device_train_batch_size": 64}),
    "garments": Small(
        "vision/fashion_mnist.json",
        60,
        {
            "per_device_train_batch_size": 32,
            "max_train_samples": 4000,
            "config_overrides": f"{SMALL_PATCHES},intermediate_size=384",
            **PROBED,
        },
    ),
    "glosses": Small(
        "text/wordnet.json",
        60,
        {"per_device_train_batch_size": 32, "max_train_samples": 4000, "max_seq_length": 16, **PROBED},
    ),
    "prompts": Small(
        "speech/asterisk.json",
        40,
        {"per_device_train_batch_size": 4, "max_duration_in_seconds": 0.8, "max_train_samples": 200, **PROBED},
    ),
    "leaves": Small("series/osu_leaf.json", 60, {"per_device_train_batch_size": 16}),
    "places": Small(
        "protein/locations.json", 60, {**LOCATIONS, **PROBED, "per_device_train_batch_size": 32, "max_seq_length": 34}
    ),
}
# The limits in the package's verdict.py were chosen on their runs.
LIMITS_SET_ON = ("digits", "glosses", "prompts", "leaves")
# Settings that are those of the data and the encoder; a run with the defaults has no others.
OF_THE_DATA = (
    "modality dataset_name train_file validation_file train_dir validation_dir label_column_name image_column_name "
    "text_column_name series_column_name line_by_line train_tokenizer tokenizer_vocab_size max_seq_length "
    "max_duration_in_seconds crop_scale_min horizontal_flip model_type config_overrides per_device_train_batch_size "
    "per_device_eval_batch_size max_train_samples max_eval_samples probe_train_samples probe_test_samples"
).split()
NO_EMA = {"ema_decay": 0.0, "ema_end_decay": 0.0}
NO_NORMS: dict[str, Any] = {"target_layer_norms": [], "target_final_norms": []}
SMALL_DECODER = {"num_masks": 4, "decoder_dim": 64, "decoder_groups": 1, "decoder_layers": 2}


class HealthTable(Table):
    """Short runs on six small data sets: images, text, speech, series and proteins."""

    name = "health"
    all_data = tuple(DATA)
    columns = {"knn": "nearest neighbours", "linear": "linear classifier"}
    drawn = "linear"

    def runs(self) -> list[Run]:
        """Those that should be well first, then those with settings that do harm or may do so."""
        return [
            Run(self.name, data, contender, seed=0, budget_s=None, settings=settings)
            for data in self.data
            for contender, settings in _settings(DATA[data])
        ]

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        """Trains with some looks at the health, and the probe before and after."""
        steps = 4 if self.quick else run.settings["max_steps"]
        every = max(1, steps // LOOKS)
        began = time.process_time()
        trained = pretrain(
            {
                **QUIET,
                **run.settings,
                "max_steps": steps,
                "eval_strategy": "no",
                "health_steps": every,
                "logging_steps": every,
                "use_cpu": self.device == "cpu",
                "output_dir": str(folder),
                "overwrite_output_dir": True,
                "seed": run.seed,
            }
        )
        trainer = trained.trainer
        log = trainer.state.log_history
        return Outcome(
            steps=trainer.state.global_step,
            cpu_s=time.process_time() - began,
            scores=_scores(trained.metrics, "eval"),
            untrained=_scores(trained.metrics, "init"),
            health=trained.metrics.get("health"),
            final_loss=last_loss(log),
            test_rows=len(trainer.feature_metrics.test),
            looks=looks_in(log),
            warmup_steps=trainer.args.get_warmup_steps(steps),
        )

    def markdown(self, rows: Sequence[Row], search: Sequence[Row]) -> str:
        """How often verdicts agreed with the probe: of these runs, in two halves, and of those of all other tables."""
        own = agreement.judged(rows)
        set_on, apart = ([run for run in own if (run.data in LIMITS_SET_ON) == there] for there in (True, False))
        others = agreement.judged(row for path in KEPT.glob("*.jsonl") if path.stem != self.name for row in read(path))
        named = ((set_on, "limits set on"), (apart, "held out"), (others, "other tables"))
        return "\n\n".join(agreement.agreement_table(runs, title) for runs, title in named if runs)

    @property
    def shows(self) -> str:
        return "Change of the probe, with its noise, by verdict"

    def draw(self, rows: Sequence[Row], path: Path) -> None:
        """The change of the probe, by verdict."""
        agreement.draw(agreement.judged(rows), path)


COMPARISON = HealthTable


def _settings(small: Small) -> list[tuple[str, dict[str, Any]]]:
    """The contenders of some data and their settings."""
    recipe = json.loads((ROOT / "examples" / small.recipe).read_text(encoding="utf-8"))
    recipe = {**recipe, **small.changes}
    own = {name: value for name, value in recipe.items() if name in OF_THE_DATA}
    kept = {name: value for name, value in recipe.items() if name not in ("output_dir", "eval_steps")}
    full = {**kept, **_lasting(small.steps)}
    rate = recipe["learning_rate"]
    teacher = {name: recipe[name] for name in ("ema_decay", "ema_end_decay")}
    visible = {"objective": "data2vec2", "learning_rate": rate, **teacher, **SMALL_DECODER}
    return [
        *((DEFAULTS, {**own, "max_steps": steps}) for steps in DEFAULT_STEPS),
        *((RECIPE, {**kept, **_lasting(steps)}) for steps in (*SHORT, small.steps)),
        ("recipe, within its warm-up", {**kept, "max_steps": 10}),
        ("rate x 30", {**full, "learning_rate": 30 * rate}),
        ("no EMA, no norms", {**full, **NO_EMA, **NO_NORMS}),
        ("no norms", {**full, **NO_NORMS}),
        ("no EMA", {**full, **NO_EMA}),
        ("rate x 4", {**full, "learning_rate": 4 * rate}),
        ("data2vec 2.0", {**own, **_lasting(small.steps // 2), **visible}),
        ("80% masked", {**full, "mask_ratio": 0.8}),
        ("weight decay 5", {**full, "weight_decay": 5.0}),
    ]


def _lasting(steps: int) -> dict[str, int]:
    """A run of so many steps, whose schedules are as long."""
    return {"max_steps": steps, "ema_anneal_steps": steps, "warmup_steps": max(1, steps // 10)}


def _scores(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name: metrics[f"{prefix}_{name}_accuracy"] for name in ("knn", "linear")}
