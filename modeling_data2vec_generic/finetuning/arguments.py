"""Flags about the task and about how an encoder is fine-tuned. Those about data and encoder are shared with
pre-training."""

from dataclasses import dataclass, field

from ..training.arguments import RunArguments
from ..training.settings import check_seed

ARMS = ("from_scratch", "linear_probe", "knn", "finetuned")
ON_FROZEN_FEATURES = ("linear_probe", "knn")  # of ARMS
# Settings of transformers without which the metrics don't get the predictions of all rows at once.
_ALL_PREDICTIONS = {"prediction_loss_only": False, "batch_eval_metrics": False, "eval_do_concat_batches": True}
_CONTROLS = ("from_scratch", "linear_probe", "knn", "compare")


@dataclass
class TaskArguments:
    """What is to be predicted, from how many labels, and beside what it is measured."""

    task: str | None = field(
        default=None,
        metadata={
            "help": "image-classification, text-classification, ctc, ...; inferred where the data leave no doubt."
        },
    )
    problem_type: str | None = field(
        default=None,
        metadata={
            "help": "single_label_classification, multi_label_classification or regression. Default: by the type of "
            "the labels, which are classes, lists of classes, or numbers with a fraction."
        },
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Same architecture and data, but new weights: what pre-training is worth."}
    )
    linear_probe: bool = field(
        default=False,
        metadata={"help": "Train nothing but a linear classifier on the features of the frozen encoder."},
    )
    knn: bool = field(
        default=False, metadata={"help": "Train nothing: the nearest training rows by the frozen features vote."}
    )
    compare: bool = field(
        default=False,
        metadata={"help": "From scratch, linear probe, nearest neighbours and fine-tuned on the same rows and seed."},
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={
            "help": "Run all of it once with each of these, instead of --seed, and report means with 95 percent "
            "confidence intervals. The seed chooses the labelled rows, the new weights and the batches."
        },
    )
    labels_per_class: int | None = field(
        default=None,
        metadata={
            "help": "Train on this many rows of each class, chosen at random by --seed; on all of a class that has "
            "fewer."
        },
    )
    label_fraction: float | None = field(
        default=None,
        metadata={"help": "Train on this share of the rows, of each class alike (at least one), chosen by --seed."},
    )
    group_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column that says what belongs together (document, speaker, level): no group is ever both in "
            "training and in validation."
        },
    )
    text_pair_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Second text of each row, of text-classification: what is told is how the two are related (a "
            "hypothesis, a paraphrase, an answer)."
        },
    )
    semantic_loss_ignore_index: int = field(
        default=255,
        metadata={"help": "Segmentation: value of the pixels of a mask that have no class. -1: all have one."},
    )
    class_weights: str | None = field(
        default=None,
        metadata={
            "help": "'balanced' weighs each class in the loss by the inverse of its number of training rows; or one "
            "number above 0 per class, in the order of the classes: 1,2.5,1."
        },
    )
    pooling: str = field(
        default="model",
        metadata={
            "help": "model: as the head of transformers for this type of encoder does (CLS of ViT, mean of wav2vec "
            "2.0); mean: the mean of all positions, by a head of this package."
        },
    )
    drop_path: float | None = field(
        default=None, metadata={"help": "Share of samples for which a block is skipped, where the encoder can do so."}
    )
    mixup: float = field(
        default=0.0, metadata={"help": "Images: both parameters of the beta distribution of mixup; 0: no mixup."}
    )
    cutmix: float = field(
        default=0.0,
        metadata={"help": "Images: the same of cutmix; 0: none. With mixup too, each batch gets one of the two."},
    )

    chars_to_ignore: list[str] | None = field(
        default=None, metadata={"help": "Speech recognition: characters to take out of the transcripts: , ? . !"}
    )
    do_lower_case: bool = field(
        default=True, metadata={"help": "Speech recognition: write the transcripts in lower case."}
    )
    mask_time_prob: float = field(
        default=0.0,
        metadata={"help": "Speech recognition: share of frames that masks would cover if none overlapped; 0: none."},
    )
    mask_time_length: int = field(default=10, metadata={"help": "Frames that such a mask spans."})
    mask_feature_prob: float = field(
        default=0.0,
        metadata={"help": "Speech recognition: share of channels that masks would cover if none overlapped; 0: none."},
    )
    mask_feature_length: int | None = field(
        default=None,
        metadata={"help": "Channels that such a mask spans. Default: 64, of narrow encoders a twelfth of all."},
    )

    def __post_init__(self) -> None:
        given = [name for name in _CONTROLS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(f'--{name}' for name in given)} are different runs: choose one.")
        if self.seeds is not None and len(set(self.seeds)) < max(len(self.seeds), 2):
            raise ValueError(f"seeds={self.seeds} must be two or more, all different; for one there is --seed.")
        for seed in self.seeds or []:
            check_seed("seeds", seed)
        if self.labels_per_class is not None and self.label_fraction is not None:
            raise ValueError("labels_per_class and label_fraction both say how many labels to use: give one of them.")
        if self.labels_per_class is not None and self.labels_per_class < 1:
            raise ValueError(f"labels_per_class={self.labels_per_class} must be 1 or more.")
        if self.label_fraction is not None and not 0 < self.label_fraction <= 1:
            raise ValueError(f"label_fraction={self.label_fraction} is a share of the rows: it must be in (0, 1].")
        if self.pooling not in ("model", "mean"):
            raise ValueError(f"pooling={self.pooling!r} is not one of 'model', 'mean'.")
        if self.drop_path is not None and not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path={self.drop_path} is a probability: it must be in [0, 1).")
        for name in ("mask_time_prob", "mask_feature_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share: it must be in [0, 1].")
        for name in ("mask_time_length", "mask_feature_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more.")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative; 0 turns it off.")

    @property
    def arms(self) -> tuple[str, ...]:
        """What is run: one of ARMS, or all of them."""
        if self.compare:
            return ARMS
        return next(((name,) for name in ARMS[:-1] if getattr(self, name)), ARMS[-1:])


@dataclass
class FinetuningArguments(RunArguments):
    """Arguments of a fine-tuning run. What is left out takes the task's default, which is a published value."""

    layer_decay: float = field(
        default=1.0,
        metadata={
            "help": "The learning rate of each block is this times that of the block above it; what comes before the "
            "first block counts as one more, and the head has the full rate. 1: all alike."
        },
    )
    tri_stage: list[float] | None = field(
        default=None,
        metadata={
            "help": "Shares of the steps in which the learning rate rises, stays, and falls exponentially, e.g. 0.1 "
            "0.4 0.5; instead of lr_scheduler_type and warmup_steps."
        },
    )
    freeze_encoder_steps: float = field(
        default=0,
        metadata={"help": "Optimizer steps in which the head alone is trained, at first; below 1, a share of all."},
    )
    freeze_convolutions: bool = field(
        default=False, metadata={"help": "Never train the convolutions that read the waveform, of speech encoders."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, needed in _ALL_PREDICTIONS.items():
            if getattr(self, name) is not needed:
                raise ValueError(
                    f"{name}={getattr(self, name)}, but every run ends with metrics of all predictions together. "
                    "Leave it out."
                )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must be above 0 and at most 1, which turns it off.")
        if not 0 <= self.label_smoothing_factor < 1:
            raise ValueError(
                f"label_smoothing_factor={self.label_smoothing_factor} is a share of the target: it must be in [0, 1)."
            )
        if self.freeze_encoder_steps < 0:
            raise ValueError(f"freeze_encoder_steps={self.freeze_encoder_steps} must not be negative.")
        if self.tri_stage is not None and (
            len(self.tri_stage) != 3 or min(self.tri_stage) < 0 or abs(sum(self.tri_stage) - 1) > 1e-6
        ):
            raise ValueError(f"tri_stage={self.tri_stage} must be three shares that sum to 1, such as 0.1 0.4 0.5.")
