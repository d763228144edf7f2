"""Robustness: how far the settings of the recipes for own data may be moved before pre-training gains less.

The centre of each grid is what `examples/*/own_*.json` says, with a tiny encoder. One setting at a time is moved away
from it: learning rate, batch, EMA and mask ratio. All cells train for the same CPU seconds. Encoders are trained on
training data alone, without labels, and scored on labelled rows of the same, by cross-validation: these runs choose
settings, so no test row is read.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import StratifiedKFold, cross_val_score

from modeling_data2vec_generic import embed
from modeling_data2vec_generic.evaluation.probe import knn_classifier, linear_classifier
from modeling_data2vec_generic.figures.drawing import WIDTH, save, styled

from ..parquet import read
from ..report import interval, markdown_table, percent
from ..rows import ROOT
from ..table import Outcome, Row, Run, Table
from ..training import Trained, pretrain_data2vec, steps_for

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
SHORT_TEACHER = {"ema_decay": 0.99, "ema_end_decay": 0.999}
"""The teacher of all centres: those of the recipes are for thousands of steps, and would hardly move in hundreds."""
LEAST = 0.9  # of the centre's gain, which a robust setting keeps one step away
FOLDS, REPEATS = 5, 2  # of the cross-validation
QUICK_ROWS = 100


@dataclass(frozen=True)
class Small:
    """A recipe for own data at small scale.

    Args:
        recipe: its path below `examples/`.
        flags: of the data and the tiny encoder, which take the place of the recipe's.
        source: what `embed` reads: built-in data, or a file of the training rows.
        budget_s: CPU seconds of training.
        wider: how many times as wide the recipe's encoder is. The learning rate is so many times the recipe's: for
            Adam, the best one falls as width rises (arXiv 2203.03466).
        mask_ratios: to try.
        embedding: flags of `embed`.
        labelled_rows: that are scored, at most.
    """

    recipe: str
    flags: Mapping[str, Any]
    source: str
    budget_s: int
    wider: float
    mask_ratios: Sequence[float]
    embedding: Mapping[str, Any]
    labelled_rows: int = 3000

    def centre(self) -> dict[str, Any]:
        """The flags of the recipe with those of the small scale, without its length and what concerns its reports."""
        recipe = json.loads((ROOT / "examples" / self.recipe).read_text(encoding="utf-8"))
        unused = ("output_dir", "max_steps", "eval_strategy", "eval_steps", "logging_steps", "seed")
        kept = {name: value for name, value in recipe.items() if name not in unused and not name.startswith("save_")}
        kept["learning_rate"] *= self.wider
        return {**kept, **SHORT_TEACHER, **self.flags}

    def cells(self) -> dict[str, dict[str, Any]]:
        """What each cell changes, by its name: the setting, a colon, and its value or factor."""
        centre = self.centre()
        cells: dict[str, dict[str, Any]] = {CENTRE: {}}
        for name, factor in RATES.items():
            cells[f"learning rate: {name}"] = {"learning_rate": centre["learning_rate"] * factor}
        for batch in (found for found in BATCHES if 2 * found >= centre["per_device_train_batch_size"]):
            cells[f"batch: {batch}"] = {"per_device_train_batch_size": batch}
        for start, end in EMAS:
            cells[f"EMA: {start:g} to {end:g}".replace("0.", ".")] = {"ema_decay": start, "ema_end_decay": end}
        for ratio in self.mask_ratios:
            cells[f"mask ratio: {ratio:g}".replace("0.", ".")] = {"mask_ratio": ratio}
        at_centre = [name for name, changes in cells.items() if changes and changes.items() <= centre.items()]
        return {name: changes for name, changes in cells.items() if name not in at_centre}


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
        budget_s=30,
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
        budget_s=60,
        wider=4,
        mask_ratios=(0.2, 0.35, 0.5, 0.65, 0.8),
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
    "asterisk": Small(
        recipe="speech/own_recordings.json",
        flags={
            "train_dir": "data/asterisk/train",
            "max_duration_in_seconds": 2.0,
            "train_sampling_strategy": "random",  # clips of two seconds are of similar lengths
            "average_top_k_layers": 2,
            "config_overrides": overrides(
                hidden_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=256,
                conv_dim="[32,32,32,32,32,32,32]",
                conv_pos_kernel_size=19,
                num_conv_pos_embeddings=2,
                hidden_dropout=0.0,
                attention_dropout=0.0,
                activation_dropout=0.0,
            ),
        },
        source="data/asterisk/train",
        budget_s=40,
        wider=3,
        mask_ratios=(0.35, 0.5, 0.65, 0.8),
        embedding={"label_column_name": "label", "max_duration_in_seconds": 2.0},
    ),
}


class RobustnessTable(Table):
    """A grid around the recipes for own data, one setting at a time."""

    name = "robustness"
    all_data = tuple(ALL)
    columns = {"linear": "linear", "neighbours": "nearest neighbours"}
    drawn = "linear"
    shows = "gain against the setting that is moved"

    def runs(self) -> list[Run]:
        return list(self._runs())

    def _runs(self) -> Iterator[Run]:
        """The centre and what is one step away with all seeds, each other cell with the first one."""
        for data in self.data:
            small, near = ALL[data], near_centre(data)
            for cell, changes in islice(small.cells().items(), 3 if self.quick else None):
                for seed in self.seeds if cell in near else self.seeds[:1]:
                    budget = 1 if self.quick else small.budget_s
                    yield Run(self.name, data, cell, seed, budget, {**small.centre(), **changes})

    def paced_by(self, run: Run) -> Run:
        """The centre, where only what costs no time is moved: such runs have as many steps as the centre has."""
        if run.contender.startswith(AS_MUCH_WORK):
            return replace(run, contender=CENTRE, settings=ALL[run.data].centre())
        return run

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        assert run.budget_s is not None
        assert seconds_per_step is not None
        trained = self.train(run, folder, max_steps=steps_for(run.budget_s, seconds_per_step))
        return trained.outcome(self.scores(run, trained.encoder_dir), self.untrained(run))

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        """Pre-trains without labels; `arguments` override the settings of the run."""
        on_cpu = self.device == "cpu"
        return pretrain_data2vec(run.settings, folder, seed=run.seed, use_cpu=on_cpu, **arguments)

    def untrained(self, run: Run) -> dict[str, float]:
        """The scores of the weights that a run begins with: what a step at the rate 0 leaves of them."""
        folder = WORK / ("quick" if self.quick else "") / run.data / f"untrained-{run.seed}"
        found = folder / "scores.json"
        if not found.is_file():
            trained = self.train(run, folder, max_steps=1, learning_rate=0.0, per_device_train_batch_size=2)
            found.write_text(json.dumps(self.scores(run, trained.encoder_dir)), encoding="utf-8")
        scores: dict[str, float] = json.loads(found.read_text(encoding="utf-8"))
        return scores

    def scores(self, run: Run, encoder_dir: Path) -> dict[str, float]:
        """Accuracies on labelled training rows by cross-validation, of the package's own classifiers."""
        small = ALL[run.data]
        source = self.labelled(small) if small.source.endswith(".parquet") else small.source
        _, features, labels = embed(encoder_dir, source, batch_size=128, device=self.device, **small.embedding)
        assert labels is not None
        if self.quick:
            features, labels = features[:QUICK_ROWS], labels[:QUICK_ROWS]
        parts = [StratifiedKFold(FOLDS, shuffle=True, random_state=seed) for seed in range(REPEATS)]
        score = partial(cross_val_score, X=features, y=np.asarray(labels))
        classifiers = {"linear": linear_classifier(), "neighbours": knn_classifier(len(features), k=5)}
        return {
            name: float(np.mean([score(classifier, cv=part) for part in parts]))
            for name, classifier in classifiers.items()
        }

    def labelled(self, small: Small) -> Path:
        """A file of labelled training rows, a fixed random choice."""
        path = WORK / f"{Path(small.source).parent.name}.parquet"
        if not path.is_file():
            whole = read(Path(small.source)).shuffle(seed=0)
            path.parent.mkdir(parents=True, exist_ok=True)
            whole.select(range(min(small.labelled_rows, len(whole)))).to_parquet(path)
        return path

    def markdown(self, rows: Sequence[Row], search: Sequence[Row]) -> str:
        return "\n\n".join(grid_table(data, found) for data, found in _by_data(rows))

    @styled
    def draw(self, rows: Sequence[Row], path: Path) -> None:
        """A panel for each of the data: the gain of each cell in % of the centre's, a curve for each setting."""
        panels = [(data, found) for data, found in _by_data(rows) if gains_everywhere(found)]
        if not panels:
            return
        columns = min(3, len(panels))
        shape = (-(-len(panels) // columns), columns)
        figure = Figure(figsize=(WIDTH, 2.6 * shape[0]), layout="constrained")
        grid = figure.subplots(*shape, squeeze=False, sharey=True)
        for axes, (data, found) in zip(grid.flat, panels, strict=False):
            axes.set(title=title(data), xlabel="steps away from the centre", xticks=range(-3, 6), ylim=(0, 150))
            axes.axhline(100 * LEAST, color="#999999", linestyle="--", linewidth=0.8)
            centre = centre_gains(found)
            for setting, ladder in ladders(data).items():
                of_cells = [[row for row in found if row["contender"] == cell] for cell in ladder]
                here = ladder.index(CENTRE)
                places = [place for place, same in enumerate(of_cells) if same]
                shares = [100 * share_of_centre(of_cells[place], centre) for place in places]
                axes.plot([place - here for place in places], shares, marker="o", label=setting)
            axes.grid(axis="y")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(FLAGS))
        for row in grid:
            row[0].set_ylabel("gain, % of the centre's")
        save(figure, path)


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


def gain(row: Row) -> float:
    """What pre-training adds to both scores, on average."""
    return statistics.fmean(row["scores"][name] - row["untrained"][name] for name in row["scores"])


def centre_gains(rows: Sequence[Row]) -> dict[int, float]:
    """The gain of the centre, by seed. Other cells are compared with the run that began with the same weights."""
    return {row["seed"]: gain(row) for row in rows if row["contender"] == CENTRE}


def share_of_centre(rows: Sequence[Row], centre: Mapping[int, float]) -> float:
    """What the runs of a cell gain together, as a share of what the centre gains with the same seeds."""
    return sum(gain(row) for row in rows) / sum(centre[row["seed"]] for row in rows)


def gains_everywhere(rows: Sequence[Row]) -> bool:
    """Whether the centre gains with all seeds, so that shares of its gain mean something."""
    centre = centre_gains(rows)
    return all(centre.get(row["seed"], 0.0) > 0 for row in rows)


def grid_table(data: str, rows: Sequence[Row]) -> str:
    """A line for new weights, the centre, and each other cell: scores, and the gain.

    That of the centre is in points; that of other cells in % of the centre's with the same seeds, if that is a gain.
    """
    centre, in_shares = centre_gains(rows), gains_everywhere(rows)
    header = [title(data), "seeds", "steps", "CPU seconds", *RobustnessTable.columns.values(), "gain", "verdict"]
    lines = [["new weights", "-", "-", "-", *_scores([row["untrained"] for row in rows]), "-", "-"]]
    for cell in dict.fromkeys(row["contender"] for row in rows):
        same = [row for row in rows if row["contender"] == cell]
        if in_shares and cell != CENTRE:
            shown = f"{100 * share_of_centre(same, centre):.0f}%"
        else:
            shown = interval([gain(row) for row in same], lambda points: f"{100 * points:.1f} points")
        verdicts = ", ".join(dict.fromkeys(row["health"] for row in same))
        seconds = f"{statistics.fmean(row['cpu_s'] for row in same):.0f}"
        scores = _scores([row["scores"] for row in same])
        lines.append(
            [described(data, cell), str(len(same)), f"{same[0]['steps']:,}", seconds, *scores, shown, verdicts]
        )
    return markdown_table(header, lines)


def described(data: str, cell: str) -> str:
    """A cell as it stands in the table: the centre with its values."""
    return f"**centre: {_values(ALL[data].centre())}**" if cell == CENTRE else cell


def title(data: str) -> str:
    """The name of the data, as it stands in the table."""
    return data.replace("_", " ")


def _values(settings: Mapping[str, Any]) -> str:
    ema = f"{settings['ema_decay']:g} to {settings['ema_end_decay']:g}".replace("0.", ".")
    mask_ratio = f"{settings['mask_ratio']:g}".replace("0.", ".")
    batch = settings["per_device_train_batch_size"]
    return f"rate {settings['learning_rate']:g}, batch {batch}, EMA {ema}, mask ratio {mask_ratio}"


def _scores(scores: Sequence[Mapping[str, float]]) -> list[str]:
    return [percent(statistics.fmean(found[name] for found in scores)) for name in RobustnessTable.columns]


def _by_data(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for data in dict.fromkeys(row["data"] for row in rows):
        yield data, [row for row in rows if row["data"] == data]


COMPARISON = RobustnessTable
