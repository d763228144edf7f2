"""Images: data2vec and data2vec 2.0 beside MAE, SimMIM and random weights, on Fashion-MNIST and on emoji in colour.

All read the same patches with the same ViT, see each image in the same crops, and take batches of the same size.
Budgets share a trunk (`training.Branches`). Features are the mean of the patches of the last hidden state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL.Image import Resampling
from transformers import PreTrainedModel, ViTConfig, ViTImageProcessorPil, ViTModel, set_seed

from modeling_data2vec_generic import Data2VecGenericForPreTraining
from modeling_data2vec_generic.evaluation.probe import after_prefix, extract_features, labels_of, subset
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop

from ..parquet import read
from ..peers.images import train_mae, train_simmim
from ..report import percent
from ..scores.encoders import finetuned, frozen_scores
from ..table import Outcome, Row, Run, Table
from ..training import Branches, Trained, pretrain_data2vec

DATA = Path("data")
PARTS = Path("output/compare/images/parts")
BUDGETS = (120, 300, 600, 1200)
SEARCH_BUDGET, LONGER_SEARCH_BUDGET, LONGEST_SEARCH_BUDGET = 120, 600, 1200
PROBE_ROWS = 20_000
LABELS_PER_CLASS = 50
VALIDATION_SHARE = 1 / 6  # of the training images, for the search
DATA2VEC, DATA2VEC2, MAE, SIMMIM, RANDOM = "data2vec", "data2vec 2.0", "MAE", "SimMIM", "random weights"
BARE_MAE = "MAE without positions"
LEAD_BUDGETS = (120, 600, 1200)  # of `lead_over_mae`, and so of MAE without positions


@dataclass(frozen=True)
class Images:
    """One of the data.

    Args:
        encoder: fields of its ViT.
        training: what all contenders have: the batch and the crops.
        searched: by CPU seconds and by contender, what is tried in place of its settings.
        found: by contender, what the search has changed in its settings.
    """

    encoder: Mapping[str, Any]
    training: Mapping[str, Any]
    searched: Mapping[int, Mapping[str, Sequence[Mapping[str, Any]]]]
    found: Mapping[str, Mapping[str, Any]]


WIDTHS = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384}
TINY = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
OPTIMIZER = {"weight_decay": 0.05, "adam_beta1": 0.9, "adam_beta2": 0.95}
# The decoder of MAE's base model has two thirds of the encoder's width and of its blocks.
DECODER = {"decoder_hidden_size": 64, "decoder_num_attention_heads": 4, "decoder_intermediate_size": 256}
TWO_BLOCKS, ONE_BLOCK, FOUR_BLOCKS = ({**DECODER, "decoder_num_hidden_layers": blocks} for blocks in (2, 1, 4))
AUTOENCODER = {"decoder": TWO_BLOCKS, "mask_ratio": 0.75, "learning_rate": 1e-3, **OPTIMIZER}
CONTENDERS = {
    DATA2VEC: {
        "objective": "data2vec",
        "average_top_k_layers": 3,
        "target_source": "ffn",
        "target_layer_norms": ["instance"],
        "target_final_norms": [],
        "loss_beta": 0.0,
        "mask_ratio": 0.6,
        "ema_decay": 0.99,
        "ema_end_decay": 0.999,
        "ema_anneal_steps": 1000,
        "learning_rate": 1e-3,
        "max_grad_norm": 3.0,
        **OPTIMIZER,
    },
    DATA2VEC2: {
        "objective": "data2vec2",
        "num_masks": 2,
        "average_top_k_layers": 3,
        "mask_ratio": 0.69,
        "mask_length": 3,
        "decoder_layers": 2,
        "decoder_groups": 8,
        "cls_loss_weight": 0.0,
        "ema_decay": 0.99,
        "ema_end_decay": 0.9995,
        "ema_anneal_steps": 1900,
        "learning_rate": 2e-3,
        "max_grad_norm": 3.0,
        **OPTIMIZER,
    },
    MAE: {**AUTOENCODER, "with_positions": True},
    BARE_MAE: {**AUTOENCODER, "with_positions": False},
    SIMMIM: {"mask_ratio": 0.6, "mask_patch_size": 4, "learning_rate": 1e-3, **OPTIMIZER},
    RANDOM: {},
}
"""The settings of each contender that the search begins with: flags for data2vec, arguments of `peers.images` for
others, and `TrainingArguments` for both."""
RATES: list[dict[str, Any]] = [{"learning_rate": rate} for rate in (5e-4, 2e-3, 4e-3)]
SLOW_TEACHER = {"ema_decay": 0.999, "ema_end_decay": 0.9999}
BLOCK_OUTPUTS = {"target_source": "block", "target_layer_norms": ["instance"]}
OF_OWN_IMAGES = {"num_masks": 8, "average_top_k_layers": 4, "mask_ratio": 0.75, "decoder_layers": 4}
OF_MAE = {"mask_ratio": 0.6}
SEARCHED: dict[str, list[dict[str, Any]]] = {
    DATA2VEC: [{}, *RATES[:2], {"mask_ratio": 0.4}, {"mask_ratio": 0.75}, {"average_top_k_layers": 4}],
    DATA2VEC2: [
        {},
        {"learning_rate": 1e-3},
        {"learning_rate": 4e-3},
        {"mask_ratio": 0.5},
        {"mask_ratio": 0.8},
        {"mask_length": 2},
        {"num_masks": 4},
        {"average_top_k_layers": 2},
        SLOW_TEACHER,
        {"decoder_layers": 4},
        {"target_layer_norms": ["layer"]},
        {"cls_loss_weight": 2.56},
        {"per_device_train_batch_size": 16},
        {"mask_ratio": 0.35},
        {"mask_ratio": 0.5, "num_masks": 4},
        {"mask_ratio": 0.5, **SLOW_TEACHER},
        {"mask_ratio": 0.5, "num_masks": 4, **SLOW_TEACHER},
        {"mask_ratio": 0.5, "mask_length": 2},
        {"mask_ratio": 0.5, "num_masks": 4, "per_device_train_batch_size": 16},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS, "target_layer_norms": ["batch"]},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS, **SLOW_TEACHER},
        {"mask_ratio": 0.5, "num_masks": 1, **SLOW_TEACHER},
    ],
    MAE: [
        {},
        *RATES,
        {"learning_rate": 1.5e-4 * 32 / 256},  # that of run_mae.py for a batch of 32
        {"mask_ratio": 0.5},
        OF_MAE,
        {"decoder": ONE_BLOCK},
        {"decoder": FOUR_BLOCKS},
        {"per_device_train_batch_size": 16},
        OF_MAE | RATES[0],
    ],
    SIMMIM: [{}, *RATES, {"mask_ratio": 0.4}, {"mask_ratio": 0.75}],
}
SEARCHED_LONGER: dict[str, list[dict[str, Any]]] = {
    DATA2VEC2: [
        {"mask_ratio": 0.5},
        {"mask_ratio": 0.5, **SLOW_TEACHER},
        {"mask_ratio": 0.5, "learning_rate": 1e-3},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS, "average_top_k_layers": 4},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS, **SLOW_TEACHER},
        {"mask_ratio": 0.5, **BLOCK_OUTPUTS, "target_layer_norms": ["batch"]},
    ],
    MAE: [OF_MAE, OF_MAE | RATES[0]],
}
"""What is tried again in as much time as the comparison that matters most has."""
SEARCHED_LONGEST: dict[str, list[dict[str, Any]]] = {DATA2VEC2: [{"mask_ratio": 0.5, **SLOW_TEACHER}]}
"""What is tried in the longest time too, in which what was found gains nothing more."""
FOUND: dict[str, dict[str, Any]] = {
    DATA2VEC: {"mask_ratio": 0.75},
    DATA2VEC2: {"mask_ratio": 0.5, **BLOCK_OUTPUTS},
    MAE: OF_MAE,
    BARE_MAE: OF_MAE,
    SIMMIM: {"mask_ratio": 0.4},
}
"""What the search on Fashion-MNIST has changed in the settings: the best try by the linear classifier, in the mean
of the two shorter lengths of run where both have been tried."""
ALL = {
    "fashion_mnist": Images(
        encoder={"image_size": 28, "patch_size": 4, "num_channels": 3, **WIDTHS},
        training={"per_device_train_batch_size": 32, "crop_scale_min": 1.0, "horizontal_flip": False},
        searched={
            SEARCH_BUDGET: SEARCHED,
            LONGER_SEARCH_BUDGET: SEARCHED_LONGER,
            LONGEST_SEARCH_BUDGET: SEARCHED_LONGEST,
        },
        found=FOUND,
    ),
    # With random crops, since the images are few. Tried is what was found on Fashion-MNIST, of two with other rates,
    # and for longer what `examples/vision/own_images.json` has.
    "emoji": Images(
        encoder={"image_size": 32, "patch_size": 4, "num_channels": 3, **WIDTHS},
        training={"per_device_train_batch_size": 32, "crop_scale_min": 0.4, "horizontal_flip": True},
        searched={
            SEARCH_BUDGET: {
                DATA2VEC: [{}, FOUND[DATA2VEC]],
                DATA2VEC2: [
                    {},
                    *({"mask_ratio": 0.5, **SLOW_TEACHER} | rate for rate in ({}, RATES[0], RATES[2])),
                    BLOCK_OUTPUTS,
                    {"mask_ratio": 0.5, **BLOCK_OUTPUTS},
                ],
                MAE: [{}, *(OF_MAE | rate for rate in ({}, *RATES))],
                SIMMIM: [{}, FOUND[SIMMIM]],
            },
            LONGER_SEARCH_BUDGET: {
                DATA2VEC2: [
                    {},
                    OF_OWN_IMAGES,
                    {**OF_OWN_IMAGES, "target_layer_norms": ["batch"]},
                    {**OF_OWN_IMAGES, "cls_loss_weight": 2.56},
                ]
            },
            LONGEST_SEARCH_BUDGET: {DATA2VEC2: [OF_OWN_IMAGES]},
        },
        found={MAE: OF_MAE, BARE_MAE: OF_MAE, SIMMIM: FOUND[SIMMIM]},
    ),
}
QUICK = {"max_steps": 10, "labels_per_class": 5}
FINETUNING = {
    "label_column_name": "label",
    "labels_per_class": LABELS_PER_CLASS,
    "crop_scale_min": 0.8,
    "horizontal_flip": True,
    "mixup": 0.0,
    "cutmix": 0.0,
    "learning_rate": 1e-3,
    "max_steps": 200,
    "per_device_train_batch_size": 50,
    "per_device_eval_batch_size": 500,
    "logging_steps": 50,
}


class ImageTable(Table):
    """Fashion-MNIST and emoji, at four budgets."""

    name = "images"
    all_data = tuple(ALL)
    columns = {"linear": "linear", "neighbours": "nearest neighbours", "finetuned": "fine-tuned, 50 labels a class"}
    drawn = "linear"
    shows = "Accuracy of a linear classifier against time"

    @property
    def budgets(self) -> tuple[int, ...]:
        return (1, 2) if self.quick else BUDGETS

    def budgets_of(self, contender: str) -> Sequence[int | None]:
        """The budgets that a contender is compared at; one that is not trained has None."""
        if contender == RANDOM:
            return (None,)
        return LEAD_BUDGETS if contender == BARE_MAE and not self.quick else self.budgets

    def runs(self) -> list[Run]:
        return [
            Run(
                self.name,
                data,
                contender,
                seed,
                budget,
                self.settings(data, contender, "test", **ALL[data].found.get(contender, {})),
            )
            for data in self.data
            for contender in CONTENDERS
            for seed in self.seeds
            for budget in self.budgets_of(contender)
        ]

    def variants(self) -> list[Run]:
        return [
            Run(self.name, data, contender, 0, budget, self.settings(data, contender, "validation", **changes))
            for data in self.data
            for budget, searched in ALL[data].searched.items()
            for contender, tries in searched.items()
            for changes in tries
            if not self.quick
        ]

    def settings(self, data: str, contender: str, scored_on: str, **changes: Any) -> dict[str, Any]:
        """Those of a run.

        Args:
            scored_on: "test", for which all training images are trained on, or "validation", which is a part of them.
            changes: other values of some settings.
        """
        images = ALL[data]
        encoder = {**images.encoder, **(TINY if self.quick else {})}
        return {
            "scored_on": scored_on,
            "encoder": encoder,
            **images.training,
            **CONTENDERS[contender],
            **changes,
        }

    def markdown(self, rows: Sequence[Row], search: Sequence[Row]) -> str:
        leads = [lead for data in self.data if (lead := lead_over_mae([row for row in rows if row["data"] == data]))]
        teachers = [teachers_lead(search)] if any("linear_of_teacher" in row["scores"] for row in search) else []
        return "\n\n".join([super().markdown(rows, search), *leads, *teachers])

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        if run.budget_s is None:
            encoder_dir = folder / "encoder"
            set_seed(run.seed)
            ViTModel(ViTConfig(**run.settings["encoder"])).save_pretrained(encoder_dir)
            processor_of(run).save_pretrained(encoder_dir)
            return Outcome(0, 0.0, self.scores(run, encoder_dir, folder))
        assert seconds_per_step is not None
        budgets = self.budgets if run.budget_s in self.budgets else (int(run.budget_s),)
        branches = Branches(budgets, seconds_per_step, folder)
        trained = branches.train(int(run.budget_s), partial(self.train, run))
        return trained.outcome(self.scores(run, trained.encoder_dir, trained.encoder_dir.parent))

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        settings = dict(run.settings)
        train_file, _ = self.files(run)
        encoder = settings.pop("encoder")
        del settings["scored_on"]
        arguments = {**arguments, "seed": run.seed, "use_cpu": self.device == "cpu"}
        if run.contender in (DATA2VEC, DATA2VEC2):
            fields = ",".join(f"{name}={value}" for name, value in encoder.items())
            new_encoder = {"model_type": "vit", "config_overrides": fields}
            images = {"modality": "vision", "train_file": str(train_file), "image_column_name": "image"}
            return pretrain_data2vec({**images, **new_encoder, **settings}, folder, **arguments)
        crop = RandomResizedCrop(settings.pop("crop_scale_min"), flip=settings.pop("horizontal_flip"))
        set_seed(run.seed)
        return (train_simmim if run.contender == SIMMIM else train_mae)(
            ViTConfig(**encoder),
            images=read(train_file),
            processor=processor_of(run),
            crop=crop,
            folder=folder,
            **settings,
            **arguments,
        )

    def scores(self, run: Run, encoder_dir: Path, folder: Path) -> dict[str, float]:
        """By linear probe and nearest neighbours, and fine-tuned; the short runs of a search are not fine-tuned.

        The long ones are, with three choices of the labelled images. Of a search, data2vec's teacher is scored too,
        which is in the model that lies around the encoder's folder.
        """
        train_file, test_file = self.files(run)
        pixels = PixelPipeline(processor_of(run))

        def collate(examples: Any) -> dict[str, Any]:
            return {"pixel_values": pixels.plain([example["image"] for example in examples])}

        rows = [subset(read(train_file), PROBE_ROWS, seed=0), read(test_file)]
        labels = [labels_of(part) for part in rows]

        def frozen(encoder: PreTrainedModel) -> dict[str, float]:
            train, test = (
                extract_features(encoder.to(self.device), part, collate, after_prefix(1), batch_size=256)
                for part in rows
            )
            return frozen_scores(train, labels[0], test, labels[1])

        found = frozen(ViTModel.from_pretrained(encoder_dir))
        searching = run.settings["scored_on"] == "validation"
        if not searching or run.budget_s != SEARCH_BUDGET:
            recipe = FINETUNING | (QUICK if self.quick else {}) | {"use_cpu": self.device == "cpu"}
            files = {"train_file": str(train_file), "validation_file": str(test_file)}
            choices = range(3) if searching else [run.seed]
            found["finetuned"] = fmean(
                finetuned(encoder_dir, recipe | files, folder / "finetuned", choice)["accuracy"] for choice in choices
            )
        if searching and run.contender in (DATA2VEC, DATA2VEC2):
            of_teacher = frozen(Data2VecGenericForPreTraining.from_pretrained(encoder_dir.parent).teacher)
            found |= {f"{name}_of_teacher": value for name, value in of_teacher.items()}
        return found

    def files(self, run: Run) -> tuple[Path, Path]:
        """The images to train on, and those to score on, as parquet files of `image` and `label`."""
        whole = DATA / run.data
        if run.settings["scored_on"] == "test" and not self.quick:
            return whole / "train.parquet", whole / "test.parquet"
        parts = PARTS / run.data / ("quick" if self.quick else "search")
        train_file, held_out_file = parts / "train.parquet", parts / "validation.parquet"
        if not held_out_file.is_file():
            images = read(whole / "train.parquet")
            sizes = {"train_size": 200, "test_size": 50} if self.quick else {"test_size": VALIDATION_SHARE}
            split = images.train_test_split(**sizes, seed=0, stratify_by_column="label")
            parts.mkdir(parents=True, exist_ok=True)
            split["train"].to_parquet(train_file)
            split["test"].to_parquet(held_out_file)
        return train_file, held_out_file


def lead_over_mae(rows: Sequence[Row]) -> str | None:
    """What the linear probe says of data2vec 2.0 beside MAE on one of the data; None while rows are missing.

    Beside MAE as its class makes it, only where there are rows of that.
    """
    by_budget: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        by_budget.setdefault((row["contender"], row["budget_s"]), []).append(row["scores"]["linear"])
    means = {key: fmean(values) for key, values in by_budget.items()}
    ours, theirs, bare = (
        [means.get((name, budget)) for budget in LEAD_BUDGETS] for name in (DATA2VEC2, MAE, BARE_MAE)
    )
    if None in (*ours, *theirs):
        return None
    lead = (
        f"On {rows[0]['data'].replace('_', ' ')}, the linear probe of data2vec 2.0 is "
        f"{100 * (ours[1] - theirs[1]):+.1f} "
        f"points from MAE's after 10 CPU minutes. MAE has {percent(theirs[2])} after 20, and data2vec 2.0 "
        f"{percent(ours[0])} after 2."
    )
    if None not in bare:
        lead += (
            " From a new `ViTMAEForPreTraining` as it comes, without positions, it is "
            f"{100 * (ours[1] - bare[1]):+.1f} points after 10; that has {percent(bare[2])} after 20."
        )
    return lead


def teachers_lead(search: Sequence[Row]) -> str:
    """How far the teacher's weights are from the student's, over the tries of a search that have both."""
    both = [scores for row in search if "linear_of_teacher" in (scores := row["scores"])]
    points = [100 * (scores["linear_of_teacher"] - scores["linear"]) for scores in both]
    return (
        f"Encoders are students. By the linear probe, their teachers are {fmean(points):+.1f} points from them in the "
        f"mean of {len(points)} tries, {min(points):+.1f} at the least and {max(points):+.1f} at the most."
    )


def processor_of(run: Run) -> ViTImageProcessorPil:
    """The image processor that data2vec makes for a new encoder, for all contenders."""
    size, half = run.settings["encoder"]["image_size"], [0.5] * run.settings["encoder"]["num_channels"]
    return ViTImageProcessorPil(
        size={"height": size, "width": size}, image_mean=half, image_std=half, resample=Resampling.BICUBIC
    )


COMPARISON = ImageTable
