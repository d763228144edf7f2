"""Flags of a fine-tuning run: the task, and how the encoder is trained on it.

The flags about data and encoder are those of pre-training (`data/arguments.py`, `training/arguments.py`).
"""

from dataclasses import dataclass, field

from ..training.arguments import RunArguments
from ..training.settings import check_seed

# The four ways of using an encoder that can be compared, in the order in which they are run.
METHODS = ("from_scratch", "linear_probe", "knn", "finetuned")
ON_FROZEN_FEATURES = ("linear_probe", "knn")  # those of METHODS that do not train the encoder
# Values that settings of transformers must have so that the metrics are computed on the predictions of all rows.
_ALL_PREDICTIONS = {"prediction_loss_only": False, "batch_eval_metrics": False, "eval_do_concat_batches": True}
_CONTROLS = ("from_scratch", "linear_probe", "knn", "compare")


@dataclass
class TaskArguments:
    """What is predicted, from how many labels, and with which other methods it is compared.

    Raises:
        ValueError: a value is out of its range, or two flags contradict each other.
    """

    task: str | None = field(
        default=None,
        metadata={
            "help": "image-classification, text-classification, ctc, ... Default: the task that the data are for, if "
            "there is only one."
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
        default=False,
        metadata={"help": "Train the same architecture on the same data from new weights, for comparison."},
    )
    linear_probe: bool = field(
        default=False,
        metadata={"help": "Train only a linear classifier on the features of the frozen encoder."},
    )
    knn: bool = field(
        default=False,
        metadata={"help": "Train nothing: predict by a vote of the nearest training rows, by the frozen features."},
    )
    compare: bool = field(
        default=False,
        metadata={
            "help": "Run and compare all methods on the same rows and seed: from scratch, linear probe, nearest "
            "neighbours and fine-tuned."
        },
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={
            "help": "Repeat the run with each of these seeds, instead of --seed, and report means with 95 percent "
            "confidence intervals. The seed decides the choice of labelled rows, the new weights and the batches."
        },
    )
    labels_per_class: int | None = field(
        default=None,
        metadata={
            "help": "Train on this many rows of each class, chosen at random by --seed. Of a class with fewer rows, "
            "all are taken."
        },
    )
    label_fraction: float | None = field(
        default=None,
        metadata={
            "help": "Train on this share of the rows of each class, and on one row of it at least. They are chosen at "
            "random by --seed."
        },
    )
    group_column_name: str | None = field(
        default=None,
        metadata={
            "help": "Column whose values group rows that belong together (document, speaker, level). No group is both "
            "in the training and in the validation data."
        },
    )
    text_pair_column_name: str | None = field(
        default=None,
        metadata={
            "help": "text-classification: column with a second text of each row. The class is then how the two texts "
            "are related (one may be a hypothesis, a paraphrase or an answer)."
        },
    )
    semantic_loss_ignore_index: int = field(
        default=255,
        metadata={"help": "Segmentation: value of the pixels of a mask that have no class. -1: every pixel has one."},
    )
    class_weights: str | None = field(
        default=None,
        metadata={
            "help": "Weights of the classes in the loss: 'balanced' for the inverse of the number of their rows, "
            "or one number above 0 per class, in the order of the classes: 1,2.5,1."
        },
    )
    pooling: str = field(
        default="model",
        metadata={
            "help": "What the head reads. model: what transformers' head for this type of encoder reads (CLS for ViT, "
            "the mean for wav2vec 2.0). mean: the mean of all positions, with a head of this package."
        },
    )
    drop_path: float | None = field(
        default=None,
        metadata={"help": "Share of samples for which a block is skipped in training, if the encoder supports it."},
    )
    mixup: float = field(
        default=0.0,
        metadata={"help": "Images, video: both parameters of the beta distribution of mixup. 0: no mixup."},
    )
    cutmix: float = field(
        default=0.0,
        metadata={
            "help": "Images, video: both parameters of the beta distribution of cutmix. 0: no cutmix. If mixup is on "
            "too, one of the two is drawn for each batch."
        },
    )

    chars_to_ignore: list[str] | None = field(
        default=None, metadata={"help": "Speech recognition: characters to remove from the transcripts: , ? . !"}
    )
    do_lower_case: bool = field(
        default=True, metadata={"help": "Speech recognition: convert the transcripts to lower case."}
    )
    mask_time_prob: float = field(
        default=0.0,
        metadata={
            "help": "Speech recognition: share of the frames that masks would cover if they did not overlap. 0: no "
            "masks."
        },
    )
    mask_time_length: int = field(default=10, metadata={"help": "Number of frames that such a mask covers."})
    mask_feature_prob: float = field(
        default=0.0,
        metadata={
            "help": "Speech recognition: share of the channels that masks would cover if they did not overlap. 0: no "
            "masks."
        },
    )
    mask_feature_length: int | None = field(
        default=None,
        metadata={
            "help": "Number of channels that such a mask covers. Default: 64, but at most a twelfth of the encoder's "
            "channels."
        },
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
    def methods(self) -> tuple[str, ...]:
        """Those of METHODS that are run: one, or all of them."""
        if self.compare:
            return METHODS
        return next(((name,) for name in METHODS[:-1] if getattr(self, name)), METHODS[-1:])


@dataclass
class FinetuningArguments(RunArguments):
    """Training arguments of a fine-tuning run. Flags that are not given take the task's default, a published value.

    Raises:
        ValueError: a value is out of its range.
    """

    layer_decay: float = field(
        default=1.0,
        metadata={
            "help": "Factor from the learning rate of each block to that of the block before it. What runs before the "
            "first block counts as one more block, and the head has the full rate. 1: the same rate for all."
        },
    )
    tri_stage: list[float] | None = field(
        default=None,
        metadata={
            "help": "Shares of the steps in which the learning rate rises, stays the same, and falls exponentially, "
            "e.g. 0.1 0.4 0.5. It replaces lr_scheduler_type and warmup_steps."
        },
    )
    freeze_encoder_steps: float = field(
        default=0,
        metadata={
            "help": "Number of optimizer steps at the beginning in which only the head is trained. Below 1, it is a "
            "share of all steps."
        },
    )
    freeze_convolutions: bool = field(
        default=False,
        metadata={"help": "Speech encoders: do not train the convolutions that read the waveform."},
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
