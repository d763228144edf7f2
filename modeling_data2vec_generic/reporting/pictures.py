"""The pictures of a pre-training run: curves, masks, and what its features were before and after.

They are of the same samples throughout. Where trackers such as TensorBoard are told of the run, they get pictures at
its beginning and at evaluations; the files in `figures/` are always drawn.
"""

import time
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.utils import logging

from ..data.quality.reading import ROWS_READ, GoodSamples, ReportingCollator
from ..evaluation.feature_view import FeatureView, content_features, view_of
from ..evaluation.probe import labels_of, read_features
from ..modalities.base_modality import Modality
from ..training.loaders import loader_settings
from .trackers import is_tracked, log_pictures

logger = logging.get_logger(__name__)

SHOWN = 8  # samples that are looked at closely
SAMPLES = 400  # among which neighbours are looked for, and which are on the map
LOOKS = 10  # that trackers get at most, so that frequent evaluations do not slow a run
FEATURES_BEFORE = "features_before.safetensors"
"""Kept in the output directory, so that a resumed run can show what its features were before training."""

CAPTIONS = {
    "curves": "The run over its optimizer steps: spreads near zero, or a rank that falls for good, would mean a "
    "collapse, while the loss says little by itself, since the targets change as the teacher does.",
    "masks": "Training samples, and what is masked of them.",
    "features_pca": "Features of the last layer, their three principal components as red, green and blue: parts of "
    "like colour have similar features.",
    "neighbours": "Samples, and those whose features are the most similar to theirs by cosine similarity.",
    "feature_map": "A map of the features by t-SNE: samples close to each other have similar features.",
}
Figure = tuple[Path, str]
"""A PNG file and its caption."""
Splits = Mapping[str, Dataset | None]


def shown_batch(samples: Dataset, collator: Any, seed: int) -> dict[str, Any]:
    """A batch of eight good samples, always the same ones, or of all if there are fewer."""
    chosen = np.random.default_rng(seed).permutation(len(samples))[:SHOWN]
    good = GoodSamples(samples, "train")
    batch = ReportingCollator(collator, good)([good[int(row)] for row in np.sort(chosen)])
    batch.pop(ROWS_READ)
    return batch


class PicturesCallback(TrainerCallback):
    """Draws the pictures of a run into `figures/` of its output directory, and gives them to trackers.

    Features are measured before the first step and by `write`. In between they are for trackers alone: at evaluations
    or, in a run without any, after the last step, at most ten times. With several processes each takes its share of
    the samples, and the first one draws.

    Args:
        trainer: of the run.
        modality: draws samples.
        masked: prepared training samples, of which masks are shown.
        viewed: prepared samples whose features are shown, which may have a column `label`. None: no features are.
        split: "train" or "validation", which `viewed` is of.
        collator: of the training data.
    """

    def __init__(
        self, trainer: Any, modality: Modality, masked: Dataset, viewed: Dataset | None, split: str, collator: Any
    ):
        self.trainer = weakref.proxy(trainer)  # not a cycle: see ResumeCallback
        self.modality, self.masked, self.collator, self.split = modality, masked, collator, split
        self.rows = None if viewed is None else _spread_first(viewed, trainer.args.seed)
        self.directory = Path(trainer.args.output_dir) / "figures"
        self.tracked = is_tracked(trainer.args)
        self.before: FeatureView | None = None
        self._last_look = 0
        self._seconds = 0.0

    # --- what Trainer calls

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with self._timed():
            saved = Path(args.output_dir) / FEATURES_BEFORE
            if state.global_step == 0:
                self.before = self._look()
                if self.before is not None and state.is_world_process_zero:
                    self.before.save(saved)
            elif saved.is_file():
                self.before = FeatureView.load(saved)
            if state.is_world_process_zero:
                masks = self._file("masks")
                self.modality.plot_masks(shown_batch(self.masked, self.collator, args.seed), masks)
                if self.tracked:
                    self._track([masks, *self._draw_features(None)])

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.is_in_train and state.global_step >= self._last_look + state.max_steps / LOOKS:
            self._look_for_trackers()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.eval_strategy == "no" and state.global_step >= state.max_steps:
            with self.trainer.speed.paused():
                self._look_for_trackers()

    # --- what a run calls

    def write(self) -> list[Figure]:
        """Draw all pictures of the finished run. All processes must call this.

        Returns:
            The files with their captions, in the order in which they should be shown; none on other processes than the
            first.
        """
        with self._timed():
            now = self._look()
            if not self.trainer.is_world_process_zero():
                return []
            drawn = [*self._draw_curves(), self._file("masks"), *self._draw_features(now)]
        logger.info(f"Pictures took {self._seconds:.1f} s of the run's time.")
        return [(path, CAPTIONS[path.stem]) for path in drawn]

    # --- measuring

    def _look_for_trackers(self) -> None:
        if not self.tracked:
            return
        with self._timed():
            now = self._look()
            self._last_look = self.trainer.state.global_step
            if self.trainer.is_world_process_zero():
                self._track([*self._draw_curves(), *self._draw_features(now)])

    def _look(self) -> FeatureView | None:
        """What the encoder's features are now; None if none are shown, or if some are not finite."""
        if self.rows is None:
            return None
        trainer, content_mask = self.trainer, self.modality.content_mask()
        batch_size = trainer.args.per_device_eval_batch_size
        encoder, plain = trainer.model.encoder, self.collator.finished_on_device().plain
        # A generator of their own, so that training draws the same random numbers with and without pictures.
        settings = loader_settings(trainer.args) | {"generator": torch.Generator()}
        # Compiled blocks would be compiled anew for these batches.
        with trainer.accelerator.autocast(), torch.compiler.set_stance("force_eager"):
            samples, collate = self._reading(plain)
            features, reads = read_features(encoder, samples, collate, content_mask, batch_size, settings)
            if any(read.bad for read in reads):
                good = [row for row, read in enumerate(reads) if not read.bad]
                self.rows, features = self.rows.select(good), features[good]
                samples, collate = self._reading(plain)
            contents = []
            for start in range(0, self._queries, batch_size):
                batch = collate([samples[row] for row in range(start, min(start + batch_size, self._queries))])
                batch.pop(ROWS_READ)
                contents += content_features(encoder, batch, content_mask)
        if not trainer.is_world_process_zero():
            return None
        if not all(np.isfinite(values).all() for values in (features, *contents)):
            logger.warning("Some of the encoder's features are NaN or infinite, so pictures of them are left out.")
            return None
        return view_of(features, contents, trainer.args.seed)

    @property
    def _queries(self) -> int:
        return 0 if self.rows is None else min(SHOWN, len(self.rows))

    def _reading(self, collate: Any) -> tuple[GoodSamples, ReportingCollator]:
        samples = GoodSamples(self.rows, self.split)
        return samples, ReportingCollator(collate, samples)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began

    # --- drawing

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.png"

    def _draw_curves(self) -> list[Path]:
        from ..figures.curves import plot_training  # matplotlib is an optional dependency

        path = self._file("curves")
        return [path] if plot_training(self.trainer.state.log_history, path) else []

    def _draw_features(self, now: FeatureView | None) -> list[Path]:
        """Draw features before training beside those of now, of which either may be missing."""
        from ..figures.features import Shown, plot_map, plot_neighbours  # matplotlib is an optional dependency

        after = f"after {self.trainer.state.global_step:,} steps"
        views = {title: view for title, view in (("before training", self.before), (after, now)) if view is not None}
        if not views or self.rows is None:
            return []
        drawn = [self._file("features_pca")]
        colours = {title: view.colours for title, view in views.items()}
        self.modality.plot_features(self._batch(range(self._queries)), colours, drawn[0])

        labels = labels_of(self.rows) if "label" in self.rows.column_names else None
        names = [] if labels is None else self.rows.features["label"].names
        neighbours = {title: view.neighbours for title, view in views.items() if view.neighbours.size}
        if neighbours:
            wanted = np.unique(
                np.concatenate([np.arange(self._queries), *map(np.ravel, neighbours.values())])
            ).tolist()
            seen = self.modality.samples_of(self._batch(wanted))
            shown = {
                row: Shown(sample, None if labels is None else int(labels[row]))
                for row, sample in zip(wanted, seen, strict=True)
            }
            found = {
                title: [[shown[row] for row in nearest] for nearest in rows.tolist()]
                for title, rows in neighbours.items()
            }
            drawn.append(self._file("neighbours"))
            plot_neighbours([shown[row] for row in range(self._queries)], found, names, drawn[-1])

        places = {title: view.places for title, view in views.items() if view.places is not None}
        if places:
            drawn.append(self._file("feature_map"))
            plot_map(places, labels, names, drawn[-1])
        return drawn

    def _batch(self, rows: Iterable[int]) -> dict[str, Any]:
        samples, collate = self._reading(self.collator.plain)
        batch = collate([samples[row] for row in rows])
        batch.pop(ROWS_READ)
        return batch

    def _track(self, paths: Sequence[Path]) -> None:
        trainer = self.trainer
        log_pictures(
            trainer.callback_handler.callbacks, {path.stem: path for path in paths}, trainer.state.global_step
        )


def pictures_of(trainer: Any, modality: Modality, prepared: Splits, labelled: Splits, collator: Any) -> Any:
    """The callback that draws the pictures of a run; None if matplotlib is not installed.

    Features are of the validation data if there are any, and otherwise of the training data.

    Args:
        trainer, modality, collator: see `PicturesCallback`.
        prepared: the prepared samples of each split.
        labelled: prepared samples with labels, or None.
    """
    if find_spec("matplotlib") is None:
        logger.warning("matplotlib is not installed, so no figures are drawn: `pip install matplotlib`.")
        return None
    split = "validation" if "validation" in prepared else "train"
    viewed = prepared[split] if labelled[split] is None else labelled[split]
    if find_spec("sklearn") is None:
        logger.warning("scikit-learn is not installed, so no features are drawn: `pip install scikit-learn`.")
        viewed = None
    return PicturesCallback(trainer, modality, prepared["train"], viewed, split, collator)


def _spread_first(samples: Dataset, seed: int) -> Dataset:
    """Some of the samples, chosen at random: first one of each class, then a second one of each, and so on."""
    chosen = np.random.default_rng(seed).permutation(len(samples))[:SAMPLES]
    if "label" in samples.column_names:
        times: Counter[int] = Counter()
        rounds = []
        for label in labels_of(samples)[chosen].tolist():
            rounds.append(times[label])
            times[label] += 1
        chosen = chosen[np.argsort(rounds, kind="stable")]
    return samples.select(chosen)
