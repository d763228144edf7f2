"""Time series: data2vec and data2vec 2.0 beside PatchTST's own pre-training, new weights, MiniRocket and catch22.

The sets are those of the archives of time series classification that come with the Python package aeon, with their own
division into training and test series. All encoders are the same PatchTST, pre-trained on the training series without
their labels; features are the mean over the patches, channel beside channel. The search is scored by cross-validation
on the training series.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from transformers import PatchTSTConfig, PatchTSTModel, PreTrainedModel, set_seed

from modeling_data2vec_generic.evaluation.probe import knn_classifier, linear_classifier
from modeling_data2vec_generic.finetuning.splitting import per_class

from .. import parquet
from ..peers.series import catch22, minirocket, train_patchtst
from ..scores.encoders import finetuned
from ..table import Outcome, Run, Table
from ..training import Trained, pretrain_data2vec, steps_for

DATA = Path("data")
BUDGETS = (15, 60)  # CPU seconds
SEARCH_BUDGET = 15
LABELS_PER_CLASS = 5
DATA2VEC, DATA2VEC2, PATCHTST, NEW = "data2vec", "data2vec 2.0", "PatchTST's own", "new weights"
MINIROCKET, CATCH22 = "MiniRocket", "catch22"
NOT_TRAINED = (NEW, MINIROCKET, CATCH22)
PATCH = {"OSULeaf": 7, "ArrowHead": 5, "BasicMotions": 5}
"""Values per patch: 61, 50 and 20 patches of each channel."""

ENCODER = {"d_model": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "ffn_dim": 256, "norm_type": "layernorm"}
TRAINING = {
    "per_device_train_batch_size": 8,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "max_grad_norm": 1.0,
}
OURS = {
    "learning_rate": 4e-3,
    "average_top_k_layers": 3,
    "loss_beta": 0.0,
    "mask_strategy": "block",
    "mask_ratio": 0.5,
    "mask_length": 4,
    "ema_decay": 0.99,
    "ema_end_decay": 0.999,
}
CONTENDERS: dict[str, dict[str, Any]] = {
    DATA2VEC: {**TRAINING, **OURS, "objective": "data2vec"},
    DATA2VEC2: {
        **TRAINING,
        **OURS,
        "objective": "data2vec2",
        "num_masks": 4,
        "decoder_dim": 64,
        "decoder_kernel_size": 5,
        "decoder_layers": 3,
        "decoder_groups": 8,
    },
    PATCHTST: {**TRAINING, "learning_rate": 2e-3, "mask_ratio": 0.4},
    NEW: {},
    MINIROCKET: {},
    CATCH22: {},
}
RATES_AND_MASKS: list[dict[str, Any]] = [{}, {"learning_rate": 1e-3}, {"learning_rate": 8e-3}, {"mask_ratio": 0.7}]
TRIES: dict[str, list[dict[str, Any]]] = {
    DATA2VEC: RATES_AND_MASKS,
    DATA2VEC2: RATES_AND_MASKS,
    PATCHTST: [{}, {"learning_rate": 1e-3}, {"learning_rate": 4e-3}, {"mask_ratio": 0.7}],
}
FOUND: dict[str, dict[str, dict[str, Any]]] = {
    "OSULeaf": {DATA2VEC: {"learning_rate": 8e-3}, PATCHTST: {"learning_rate": 4e-3}},
    "ArrowHead": {DATA2VEC: {"learning_rate": 8e-3}, PATCHTST: {"learning_rate": 1e-3}},
    "BasicMotions": {
        DATA2VEC: {"mask_ratio": 0.7},
        DATA2VEC2: {"learning_rate": 8e-3},
        PATCHTST: {"learning_rate": 4e-3},
    },
}
"""Those tries that were best by the linear classifier, where that was not the first one."""
FINETUNING = {
    "series_column_name": "series",
    "label_column_name": "label",
    "labels_per_class": LABELS_PER_CLASS,
    "learning_rate": 1e-3,
    "max_steps": 100,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 256,
}


class SeriesTable(Table):
    """Three sets, at two budgets."""

    name = "series"
    all_data = tuple(PATCH)
    columns = {
        "linear": "linear",
        "neighbour": "nearest neighbour",
        "few_linear": f"linear, {LABELS_PER_CLASS} labels a class",
        "few_finetuned": f"fine-tuned, {LABELS_PER_CLASS} labels a class",
    }
    drawn = "linear"
    leads = ((NEW, (DATA2VEC, DATA2VEC2, PATCHTST)), (PATCHTST, (DATA2VEC, DATA2VEC2)))

    def runs(self) -> list[Run]:
        return [
            Run(self.name, data, name, seed, budget, self.settings(data, name, **FOUND[data].get(name, {})))
            for data in self.data
            for name in CONTENDERS
            for budget in ((None,) if name in NOT_TRAINED else (1,) if self.quick else BUDGETS)
            for seed in self.seeds
        ]

    def variants(self) -> list[Run]:
        return [
            Run(self.name, data, name, 0, SEARCH_BUDGET, self.settings(data, name, "training series", **changes))
            for data in self.data
            for name, tries in TRIES.items()
            for changes in tries
            if not self.quick
        ]

    def settings(self, data: str, contender: str, scored_on: str = "test series", **changes: Any) -> dict[str, Any]:
        """Those of a run. `scored_on` is "test series" or, by cross-validation, "training series"."""
        encoder = {**ENCODER, "patch_length": PATCH[data], "patch_stride": PATCH[data]}
        own = {} if contender in (MINIROCKET, CATCH22) else {"encoder": encoder}
        return {"scored_on": scored_on, **own, **CONTENDERS[contender], **changes}

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        if run.contender in (MINIROCKET, CATCH22):
            return Outcome(0, 0.0, scores_without_encoder(run))
        if seconds_per_step is None:
            set_seed(run.seed)
            encoder_dir = folder / "encoder"
            PatchTSTModel(PatchTSTConfig(**config_of(run))).save_pretrained(encoder_dir)
            return Outcome(0, 0.0, self.scores(run, encoder_dir, folder))
        assert run.budget_s is not None
        trained = self.train(run, folder, max_steps=steps_for(run.budget_s, seconds_per_step))
        return trained.outcome(self.scores(run, trained.encoder_dir, folder))

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        settings = dict(run.settings)
        encoder = settings.pop("encoder")
        del settings["scored_on"]
        arguments = {**settings, **arguments, "seed": run.seed, "use_cpu": self.device == "cpu"}
        if run.contender == PATCHTST:
            set_seed(run.seed)
            return train_patchtst(config_of(run), read(run.data, "train")[0], folder=folder, **arguments)
        recipe = {
            "modality": "series",
            "train_file": str(DATA / run.data / "train.parquet"),
            "validation_split_percentage": 0,
            "model_type": "patchtst",
            "config_overrides": ",".join(f"{name}={value}" for name, value in encoder.items()),
        }
        return pretrain_data2vec(recipe, folder, **arguments)

    def scores(self, run: Run, encoder_dir: Path, folder: Path) -> dict[str, float]:
        """On the test series with all training labels and with few of them, or by cross-validation."""
        encoder = PatchTSTModel.from_pretrained(encoder_dir)
        series, labels = read(run.data, "train")
        features = features_of(encoder, series)
        classifiers = {"linear": linear_classifier(), "neighbour": knn_classifier(len(series), k=1)}
        if run.settings["scored_on"] != "test series":
            folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
            return {
                name: float(cross_val_score(classifier, features, labels, cv=folds).mean())
                for name, classifier in classifiers.items()
            }
        test_series, test_labels = read(run.data, "test")
        test = features_of(encoder, test_series)
        found = {
            name: float(classifier.fit(features, labels).score(test, test_labels))
            for name, classifier in classifiers.items()
        }
        few = few_of(labels, run.seed)
        found["few_linear"] = float(linear_classifier().fit(features[few], labels[few]).score(test, test_labels))
        files = {
            "train_file": str(DATA / run.data / "train.parquet"),
            "validation_file": str(DATA / run.data / "test.parquet"),
        }
        recipe = FINETUNING | files | {"use_cpu": self.device == "cpu"} | ({"max_steps": 5} if self.quick else {})
        found["few_finetuned"] = finetuned(encoder_dir, recipe, folder / "finetuned", run.seed)["accuracy"]
        return found


def scores_without_encoder(run: Run) -> dict[str, float]:
    """What aeon's classifiers reach with all training labels, and with few of them."""
    (train, labels), (test, test_labels) = (read(run.data, split) for split in ("train", "test"))
    classifier = {MINIROCKET: minirocket, CATCH22: catch22}[run.contender]
    found = {}
    for name, rows in (("linear", np.arange(len(labels))), ("few_linear", few_of(labels, run.seed))):
        fitted = classifier(run.seed).fit(train[rows].swapaxes(1, 2), labels[rows])
        found[name] = float(fitted.score(test.swapaxes(1, 2), test_labels))
    return found


def few_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """The training series whose labels are used if only few are: those that fine-tuning with this seed chooses."""
    return per_class(labels, LABELS_PER_CLASS, seed, [str(label) for label in range(labels.max() + 1)])


def config_of(run: Run) -> Mapping[str, Any]:
    """Fields of the `PatchTSTConfig` of a run's encoder."""
    _, length, channels = read(run.data, "train")[0].shape
    return {**run.settings["encoder"], "context_length": length, "num_input_channels": channels}


@cache
def read(data: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Series, (N, T, channels) float32, and their labels, (N,) int64."""
    rows = parquet.read(DATA / data / f"{split}.parquet")
    return np.array(rows["series"][:], np.float32), np.array(rows["label"][:], np.int64)


@torch.no_grad()
def features_of(encoder: PreTrainedModel, series: np.ndarray) -> np.ndarray:
    """Features (N, channels * d_model) of series (N, T, channels), all in one batch: the mean over the patches."""
    hidden = encoder.eval()(past_values=torch.from_numpy(series)).last_hidden_state
    return hidden.mean(dim=2).flatten(1).numpy()


COMPARISON = SeriesTable
