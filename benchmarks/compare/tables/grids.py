"""The grids of `robustness`: recipes for own data at small scale, the cells around each of them, and their scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score

from modeling_data2vec_generic import embed
from modeling_data2vec_generic.choosing.constants import KINDS, QUICK_TEACHER, TEACHER
from modeling_data2vec_generic.evaluation.probe import knn_classifier, linear_classifier

from ..parquet import read
from ..rows import ROOT
from ..table import Run
from . import speech

WORK = Path("output/compare/robustness")
CENTRE = "centre"
RATES = {"× 1/4": 0.25, "× 1/2": 0.5, "× 2": 2.0, "× 4": 4.0}
BATCHES = (8, 16, 32, 64, 128, 256, 512)
EMAS = ((0.9, 0.99), (0.99, 0.999), (0.999, 0.9999))
FLAGS = {
    "learning rate": "learning_rate",
    "batch": "per_device_train_batch_size",
    "EMA": "ema_decay",
    "mask ratio": "mask_ratio",
}
"""The settings that are moved, and the flag of each."""
AS_MUCH_WORK = ("learning rate", "EMA")
"""Settings that a step takes as long with, whatever their values."""
FOLDS, REPEATS = 5, 2  # of the cross-validation
QUICK_ROWS = 100


@dataclass(frozen=True)
class Small:
    """A recipe for own data at small scale.

    Args:
        recipe: its path below `examples/`.
        flags: of the data and the tiny encoder, which take the place of the recipe's.
        budget_s: CPU seconds of training.
        wider: how many times as wide the recipe's encoder is. The learning rate is so many times the recipe's: for
            Adam, the best one falls as width rises (arXiv 2203.03466).
        mask_ratios: to try.
        emas: the decays of the teacher to try, at the beginning and at the end.
        source: what `embed` reads for the scores: built-in data, or a file of the training rows.
        embedding: flags of `embed`.
        labelled_rows: that are scored, at most.
    """

    recipe: str
    flags: Mapping[str, Any]
    budget_s: int
    wider: float
    mask_ratios: Sequence[float]
    emas: Sequence[tuple[float, float]] = EMAS
    source: str = ""
    embedding: Mapping[str, Any] = field(default_factory=dict)
    labelled_rows: int = 3000

    def centre(self) -> dict[str, Any]:
        """The flags of the recipe with those of the small scale, without its length and what concerns its reports."""
        recipe = json.loads((ROOT / "examples" / self.recipe).read_text(encoding="utf-8"))
        unused = ("output_dir", "max_steps", "eval_strategy", "eval_steps", "logging_steps", "seed")
        kept = {name: value for name, value in recipe.items() if name not in unused and not name.startswith("save_")}
        kept["learning_rate"] *= self.wider
        # The recipes' teachers are for thousands of steps, and would hardly move in hundreds.
        return {**kept, **teacher(TEACHER[1_000]), **self.flags}

    def cells(self) -> dict[str, dict[str, Any]]:
        """What each cell changes, by its name: the setting, a colon, and its value or factor."""
        centre = self.centre()
        cells: dict[str, dict[str, Any]] = {CENTRE: {}}
        for name, factor in RATES.items():
            cells[f"learning rate: {name}"] = {"learning_rate": centre["learning_rate"] * factor}
        for batch in (found for found in BATCHES if 2 * found >= centre["per_device_train_batch_size"]):
            cells[f"batch: {batch}"] = {"per_device_train_batch_size": batch}
        for start, end in self.emas:
            cells[f"EMA: {start:g} to {end:g}".replace("0.", ".")] = teacher((start, end))
        for ratio in self.mask_ratios:
            cells[f"mask ratio: {ratio:g}".replace("0.", ".")] = {"mask_ratio": ratio}
        at_centre = [name for name, changes in cells.items() if changes and changes.items() <= centre.items()]
        return {name: changes for name, changes in cells.items() if name not in at_centre}

    def start(self, seed: int, folder: Path) -> dict[str, Any]:
        """Further flags of a run, and what it starts from, which is written into the folder. Here there are none."""
        return {}

    def scores(self, encoder_dir: Path, seed: int, device: str, quick: bool) -> dict[str, float]:
        """Accuracies on labelled training rows by cross-validation, of the package's own classifiers.

        Args:
            encoder_dir: of the encoder.
            seed: of the run. The rows are the same for all of them.
            device: to compute features on.
            quick: take few rows.
        """
        source = self.labelled() if self.source.endswith(".parquet") else self.source
        _, features, labels = embed(encoder_dir, source, batch_size=128, device=device, **self.embedding)
        assert labels is not None
        if quick:
            features, labels = features[:QUICK_ROWS], labels[:QUICK_ROWS]
        parts = [StratifiedKFold(FOLDS, shuffle=True, random_state=part) for part in range(REPEATS)]
        score = partial(cross_val_score, X=features, y=np.asarray(labels))
        classifiers = {"linear": linear_classifier(), "neighbours": knn_classifier(len(features), k=5)}
        return {
            name: float(np.mean([score(classifier, cv=part) for part in parts]))
            for name, classifier in classifiers.items()
        }

    def labelled(self) -> Path:
        """A file of labelled training rows, a fixed random choice."""
        path = WORK / f"{Path(self.source).parent.name}.parquet"
        if not path.is_file():
            whole = read(Path(self.source)).shuffle(seed=0)
            path.parent.mkdir(parents=True, exist_ok=True)
            whole.select(range(min(self.labelled_rows, len(whole)))).to_parquet(path)
        return path


@dataclass(frozen=True)
class Spoken(Small):
    """The recipe for own recordings, with the encoder of the table `speech`, whose first filters are given.

    It is scored by the letters that are right, as there.
    """

    def centre(self) -> dict[str, Any]:
        """The flags, without those of the recipe's own encoder."""
        return {
            name: value for name, value in super().centre().items() if name not in ("model_type", "config_overrides")
        }

    def start(self, seed: int, folder: Path) -> dict[str, Any]:
        """The new encoder of the table `speech`."""
        table, run = self._new_weights(seed)
        return {"model_name_or_path": str(table.starting_point(run, folder))}

    def scores(self, encoder_dir: Path, seed: int, device: str, quick: bool) -> dict[str, float]:
        """Letters right by a linear classifier, on levels of the game that are held out of the training levels."""
        table, run = self._new_weights(seed, quick)
        return {"linear": table.letters(run, speech.reader_of(encoder_dir))}

    def _new_weights(self, seed: int, quick: bool = False) -> tuple[speech.SpeechTable, Run]:
        """The table `speech`, and its run of new weights that is scored on the validation part."""
        table = speech.SpeechTable(seeds=[seed], quick=quick)
        return table, table.run(speech.NEW, seed, "validation")


def teacher(decays: tuple[float, float]) -> dict[str, float]:
    """The flags of a teacher, by its decay at the beginning and at the end."""
    return dict(zip(("ema_decay", "ema_end_decay"), decays, strict=True))


def vit(**fields: Any) -> str:
    """The tiny encoder of images, as `config_overrides`."""
    return overrides(num_channels=3, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, **fields)


def overrides(**fields: Any) -> str:
    """Fields of a configuration as `config_overrides` takes them."""
    return ",".join(f"{name}={value}" for name, value in fields.items())


IMAGES = {"average_top_k_layers": 2, "num_masks": 4, "mask_length": 2, "horizontal_flip": False}
ALL = {
    "fashion_mnist": Small(
        recipe="vision/own_images.json",
        flags={
            **IMAGES,
            "train_file": "data/fashion_mnist/train.parquet",
            "image_column_name": "image",
            "max_train_samples": 20_000,
            "crop_scale_min": 1.0,
            "config_overrides": vit(image_size=20, patch_size=4, intermediate_size=192),
        },
        source="data/fashion_mnist/train.parquet",
        budget_s=40,
        wider=4,
        mask_ratios=(0.3, 0.45, 0.6, 0.75, 0.85),
        embedding={"image_column_name": "image", "label_column_name": "label"},
    ),
    "digits": Small(
        recipe="vision/own_images.json",
        flags={
            **IMAGES,
            "dataset_name": "digits",
            "crop_scale_min": 0.6,
            "config_overrides": vit(image_size=10, patch_size=2, intermediate_size=192),
        },
        source="digits",
        budget_s=40,
        wider=4,
        mask_ratios=(0.3, 0.45, 0.6, 0.75, 0.85),
        embedding={"label_column_name": "label"},
    ),
    "OSULeaf": Small(
        recipe="series/own_series.json",
        flags={
            "train_file": "data/OSULeaf/train.parquet",
            "series_column_name": "series",
            "average_top_k_layers": 2,
            "config_overrides": overrides(
                d_model=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                ffn_dim=128,
                norm_type="layernorm",
                patch_length=8,
                patch_stride=8,
            ),
        },
        source="data/OSULeaf/train.parquet",
        budget_s=30,
        wider=1,
        mask_ratios=(0.2, 0.35, 0.5, 0.65, 0.8),
        embedding={"series_column_name": "series", "label_column_name": "label"},
    ),
    "moving_digits": Small(
        recipe="video/own_clips.json",
        flags={
            "train_file": "data/moving_digits/train.parquet",
            "video_column_name": "video",
            "average_top_k_layers": 2,
            "mask_length": 2,
            "crop_scale_min": 1.0,
            "horizontal_flip": False,
            "config_overrides": vit(image_size=24, patch_size=4, num_frames=8, tubelet_size=2, intermediate_size=192),
        },
        source="data/moving_digits/train.parquet",
        budget_s=60,  # 280 steps: in half as many, a lower rate or a smaller batch has not caught up
        wider=4,
        mask_ratios=(0.3, 0.45, 0.6, 0.75, 0.85),
        embedding={"video_column_name": "video", "label_column_name": "label"},
    ),
    "wordnet": Small(
        recipe="text/own_text.json",
        flags={
            "train_file": "data/wordnet/nouns_train.parquet",
            "text_column_name": "text",
            "max_seq_length": 32,
            "tokenizer_vocab_size": 4096,
            "average_top_k_layers": 2,
            **teacher(QUICK_TEACHER[5_000]),  # that of `data2vec pretrain` for runs of this length
            "config_overrides": overrides(
                hidden_size=64,
                embedding_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=256,
                max_position_embeddings=64,
            ),
        },
        source="data/wordnet/nouns_train.parquet",
        budget_s=180,  # 3,600 steps: in 1,000, the warm-up to twice the rate is too short
        wider=4,
        mask_ratios=(0.2, 0.35, 0.5, 0.65, 0.8),
        emas=((0.0, 0.9), *EMAS),  # the first one, which is ten times as quick, begins as a copy of the student
        embedding={"text_column_name": "text", "label_column_name": "label", "max_seq_length": 32},
        labelled_rows=5000,
    ),
    "protein_locations": Small(
        recipe="protein/own_proteins.json",
        flags={
            "train_file": "data/protein_locations/pretraining.fasta",
            "max_seq_length": 66,
            "train_sampling_strategy": "random",  # nearly all parts of 64 residues are of this length
            "average_top_k_layers": 2,
            "config_overrides": overrides(
                hidden_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=192,
                max_position_embeddings=68,
                position_embedding_type="rotary",
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
        },
        source="data/protein_locations/train.parquet",
        budget_s=20,
        wider=128 / 48,
        mask_ratios=(0.15, 0.25, 0.4, 0.55, 0.7),
        embedding={"text_column_name": "sequence", "label_column_name": "place", "max_seq_length": 66},
    ),
    "fish_fillets": Spoken(
        recipe="speech/own_recordings.json",
        flags={
            "train_file": "data/fillets_cs_nl/pretraining.parquet",
            **speech.CLIPS,
            "train_sampling_strategy": "random",  # these clips are of similar lengths
            "average_top_k_layers": 2,
            "mask_length": 5,  # frames of 40 ms, in place of 10 of 20 ms
            # That of `data2vec pretrain` for encoders of this width.
            "learning_rate": KINDS["speech"].training["tiny"].learning_rate,
        },
        budget_s=60,
        wider=1,
        mask_ratios=(0.35, 0.5, 0.65, 0.8),
    ),
}


def ladders(data: str) -> dict[str, list[str]]:
    """For each setting the cells from the lowest value to the highest, the centre among them."""
    small = ALL[data]
    cells, centre = small.cells(), small.centre()
    found = {}
    for setting, flag in FLAGS.items():
        values = {name: changes[flag] for name, changes in cells.items() if name.startswith(f"{setting}: ")}
        values[CENTRE] = centre[flag]
        # Teachers with the same decay at the beginning differ at the end.
        ends = {name: changes.get("ema_end_decay", 0.0) for name, changes in {**cells, CENTRE: centre}.items()}
        found[setting] = sorted(values, key=lambda name: (values[name], ends[name]))
    return found


def near_centre(data: str) -> set[str]:
    """The centre and the cells that are one step away from it."""
    places = [(ladder, ladder.index(CENTRE)) for ladder in ladders(data).values()]
    return {cell for ladder, here in places for cell in ladder[max(0, here - 1) : here + 2]}
