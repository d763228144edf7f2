"""Flags about the backbone, the objective and the run. Flags about data and masks are in
`modeling_data2vec_generic.data`."""

import math
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from ..hub.layout import CONTENTS
from .settings import check_card, check_packages, check_ranges


@dataclass
class ModelArguments:
    """Which encoder to train, and from what weights."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Encoder to go on training: a folder or a Hub id that AutoModel loads. Leave out to start from "
            "scratch."
        },
    )
    config_name: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a configuration for a new encoder, when from scratch."}
    )
    model_type: str | None = field(
        default=None,
        metadata={"help": "Type of a new encoder with its default configuration, e.g. vit, bert, wav2vec2."},
    )
    config_overrides: str | None = field(
        default=None,
        metadata={
            "help": "Changes to the configuration of a new encoder: hidden_size=96,num_hidden_layers=4,image_size=28"
        },
    )
    processor_name: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of the tokenizer, image processor or feature extractor. Default: that of the "
            "encoder."
        },
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={"help": "Run Python code that comes with the encoder. Only for sources that you have read."},
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention of the encoder: eager, sdpa, flex_attention, flash_attention_2, flash_attention_3 or "
            "another one that transformers has. Flash attention needs --bf16 or --fp16. Default: sdpa where the "
            "encoder has it."
        },
    )

    def __post_init__(self) -> None:
        if len(self._named) > 1:
            raise self._not_one()
        if self.config_overrides is not None and self.model_name_or_path is not None:
            raise ValueError(
                "config_overrides changes the configuration of a new encoder, so it does not go with "
                "model_name_or_path. Use --config_name with the same value to start from scratch with that "
                "configuration."
            )

    @property
    def names_encoder(self) -> bool:
        """Whether anything is said of which encoder to train."""
        return bool(self._named) or self.config_overrides is not None

    def require_encoder(self) -> None:
        """Raises ValueError if it is not said which encoder to train."""
        if not self._named:
            raise self._not_one()

    @property
    def _named(self) -> list[str]:
        names = ("model_name_or_path", "config_name", "model_type")
        return [name for name in names if getattr(self, name) is not None]

    def _not_one(self) -> ValueError:
        named = self._named
        return ValueError(
            "Exactly one of model_name_or_path, config_name and model_type says which encoder to train, and "
            f"{len(named)} are given{': ' + ', '.join(named) if named else ''}. To start from scratch, pass e.g. "
            "--model_type vit."
        )


@dataclass
class ObjectiveArguments:
    """The objective. A field left out takes the value of `objective` for the modality; each is explained in the
    config."""

    objective: str = field(
        default="data2vec",
        metadata={
            "help": "data2vec (first paper) or data2vec2 (2.0): fills the settings below and the mask settings."
        },
    )
    teacher_embeddings: str | None = field(
        default=None, metadata={"help": "ema or copy: how the teacher's embeddings follow the student's."}
    )
    student_input: str | None = field(
        default=None, metadata={"help": "mask_token (full length) or visible (data2vec 2.0: visible positions only)."}
    )
    num_masks: int | None = field(
        default=None, metadata={"help": "Masks per sample that share one pass of the teacher."}
    )
    average_top_k_layers: int | None = field(
        default=None, metadata={"help": "Blocks, counted from the top, whose outputs are averaged to the target."}
    )
    target_source: str | None = field(
        default=None,
        metadata={"help": "ffn or block: feed-forward output before the residual, or the block's output."},
    )
    target_layer_norms: list[str] | None = field(
        default=None, metadata={"help": "Norms of each layer's output, out of batch, instance, layer; or none."}
    )
    target_final_norms: list[str] | None = field(
        default=None, metadata={"help": "Norms of the averaged target, out of batch, instance, layer; or none."}
    )
    ignore_padding: bool | None = field(
        default=None,
        metadata={"help": "Leave padding out of target statistics and decoder; False as the papers' code."},
    )
    predictor: str | None = field(default=None, metadata={"help": "linear, mlp or conv (a convolutional decoder)."})
    decoder_dim: int | None = field(default=None, metadata={"help": "Channels of the convolutional decoder."})
    decoder_layers: int | None = field(default=None, metadata={"help": "Convolutions of the decoder."})
    decoder_kernel_size: int | None = field(
        default=None, metadata={"help": "Positions that a convolution of the decoder spans, along each axis."}
    )
    decoder_groups: int | None = field(default=None, metadata={"help": "Groups of the decoder's convolutions."})
    decoder_residual: bool | None = field(
        default=None, metadata={"help": "Add a decoder layer's input to its output where the widths agree."}
    )
    decoder_projection_layers: int | None = field(
        default=None, metadata={"help": "Linear layers after the decoder's convolutions."}
    )
    mask_noise_std: float | None = field(
        default=None, metadata={"help": "Standard deviation of the noise in the masked places of the decoder's input."}
    )
    loss_beta: float | None = field(
        default=None, metadata={"help": "Error at which the smooth L1 loss turns linear; 0 is the squared error."}
    )
    loss_scale: float | None = field(default=None, metadata={"help": "Factor of the loss. Default: 1/sqrt(width)."})
    cls_loss_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the loss between CLS and the mean target, a mean over the rows of an optimizer step; 0 "
            "leaves it out. It does not depend on the batch. data2vec 2.0: 2.56 (base), 1.28 (large, huge)."
        },
    )

    def __post_init__(self) -> None:
        for name in ("target_layer_norms", "target_final_norms"):
            if getattr(self, name) == ["none"]:  # a flag can't be given an empty list
                setattr(self, name, [])


@dataclass
class RunArguments(TrainingArguments):
    """transformers' TrainingArguments as the scripts of this package use them.

    Differs in two defaults: `remove_unused_columns` is False, since the collator picks what the encoder reads, and
    batches are copied to the device without waiting for it (`non_blocking` of `accelerator_config`) where
    `dataloader_pin_memory` is on.
    """

    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Drop columns that forward does not name; it can't name any encoder's inputs."},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Start anew in an output directory that already holds a run."}
    )
    exit_zero_on_sigterm: bool = field(
        default=False,
        metadata={
            "help": "Exit with 0 after SIGTERM or SIGUSR1 has stopped the run, in place of 143, by which schedulers "
            "tell a run that was stopped from one that is finished."
        },
    )
    report_to: None | str | list[str] = field(  # in transformers, the flag takes one value only
        default="none",
        metadata={
            "nargs": "+",
            "help": "Where the log goes besides the terminal: tensorboard, wandb, trackio and others that "
            "transformers has, one or several of them, all that are installed (all), or none.",
        },
    )
    hub_private_repo: bool = field(  # with None, as in transformers, the flag would need a value
        default=False,
        metadata={
            "help": "Make a new repository private (--push_to_hub). Default: as its owner has chosen, mostly public."
        },
    )
    dry_run: str | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": "chosen",
            "help": "Train nothing: print the settings that are no defaults and where each comes from (all of them "
            "with --dry_run all), data, tokens, parameters, and what time and memory the run would take, estimated "
            "from a few steps, which are thrown away. A picture of masks is written to dry_run/ in the output "
            "directory.",
        },
    )
    license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the trained model, for its model card: an identifier of the Hub, such as apache-2.0, "
            "mit or cc-by-4.0. Which you may choose depends on the data, too."
        },
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "Languages of the data, for the model card, as codes: en, or en de."}
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        check_card(self)
        self._check_dry_run()
        own_config = self.accelerator_config is not None
        super().__post_init__()
        if not self.hub_private_repo:
            self.hub_private_repo = None  # type: ignore[assignment]  # the owner's choice
        check_packages(self)
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns=True would remove what the collators read. Leave it out.")
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # there is no device to pin memory for, and torch warns at every loader
            if self.fp16:  # accelerate would train in float32 without a word
                raise ValueError("fp16=True needs an accelerator, and this run is on the CPU. Use --bf16 or neither.")
        if not own_config:
            accelerator_config: Any = self.accelerator_config
            accelerator_config.non_blocking = self.dataloader_pin_memory

    def _check_dry_run(self) -> None:
        meant = {"true": "chosen", "false": None, "chosen": "chosen", "all": "all"}  # recipes and Python have booleans
        if self.dry_run is not None:
            if str(self.dry_run).lower() not in meant:
                raise ValueError(f"dry_run={self.dry_run!r} is unknown: give no value, or all for all settings.")
            self.dry_run = meant[str(self.dry_run).lower()]


@dataclass
class Data2VecTrainingArguments(RunArguments):
    """Arguments of a run with the teacher's schedule.

    Differs in one more default: `logging_nan_inf_filter` is False, since steps that met NaN or infinity are not taken
    and left out of the log (see `max_bad_steps`), for which the filter would wait for the device twice in each
    micro-batch.
    """

    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Log the average of earlier losses in place of one that is NaN or infinite."},
    )
    max_bad_steps: int = field(
        default=10,
        metadata={
            "help": "Optimizer steps in a row that may meet NaN or infinity in a batch, the loss or a gradient. They "
            "are skipped, counted (bad_steps in the log) and their samples named; at this many the run stops."
        },
    )
    ema_decay: float = field(
        default=0.999,
        metadata={"help": "Share of its old weights that the teacher keeps at each optimizer step, at first."},
    )
    ema_end_decay: float = field(
        default=0.9999, metadata={"help": "The same once annealed. Closer to 1: a slower teacher."}
    )
    ema_anneal_steps: int | None = field(
        default=None, metadata={"help": "Optimizer steps over which the decay rises. Default: all of the run's."}
    )
    teacher_half_copy: bool = field(
        default=True,
        metadata={
            "help": "With --bf16 or --fp16, keep half-precision copies of the weights of the teacher's linear layers "
            "and convolutions during training, so that autocast does not cast them again in every pass. Nothing else "
            "changes. They take 2 bytes per weight. Not used with FSDP and DeepSpeed."
        },
    )
    reference_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Samples per optimizer step that warmup_steps and the ema_* flags were written for. If this run's "
            "batch differs, they are rescaled to stay the same in samples, and the log says how."
        },
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Make batches of samples of similar length, as many as this number of positions can hold with "
            "their padding, in place of per_device_train_batch_size. Positions are tokens of text, and frames of "
            "speech (50 a second in wav2vec 2.0; fairseq's max_tokens counts samples of sound, 320 to a frame). "
            "Evaluations keep per_device_eval_batch_size. Not with --streaming."
        },
    )
    probe_train_samples: int = field(
        default=5000, metadata={"help": "Labelled training rows that the probe is fitted on, at most."}
    )
    probe_test_samples: int = field(
        default=10000, metadata={"help": "Labelled validation rows that the probe is tested on, at most."}
    )
    health_steps: float | None = field(
        default=None,
        metadata={
            "help": "Optimizer steps between two looks at the health of the run, or below 1 a share of the run. With "
            "more steps than the run has, only the look before the first one is left. Default: with each evaluation; "
            "ten times over a run without evaluation."
        },
    )
    stop_on_collapse: bool = field(
        default=False,
        metadata={
            "help": "Stop when two looks at a fixed batch in a row find that the encoder's features have collapsed."
        },
    )

    hub_content: str = field(
        default="both",
        metadata={
            "help": "With --push_to_hub, what is pushed: encoder (the plain encoder with its processor, at "
            "the top), full (the full model, with teacher and predictor, in pretraining/) or both. The card and the "
            "figures always do."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hub_content not in CONTENTS:
            raise ValueError(f"hub_content={self.hub_content!r} is unknown: choose among {', '.join(CONTENTS)}.")
        for name in ("ema_decay", "ema_end_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share and must lie between 0 and 1.")
        if self.ema_decay > self.ema_end_decay:
            raise ValueError(
                f"ema_decay={self.ema_decay} is above ema_end_decay={self.ema_end_decay}. The teacher's decay may "
                "only rise: swap them, or set both alike for a constant decay."
            )
        if self.max_tokens_per_batch is not None:
            self._check_batches_of(self.max_tokens_per_batch)
        if self.max_bad_steps < 1:
            raise ValueError(f"max_bad_steps={self.max_bad_steps} must be at least 1: the run stops at that many.")
        for name in ("probe_train_samples", "probe_test_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more.")
        if self.health_steps is not None and not (
            0 < self.health_steps < math.inf and (self.health_steps < 1 or self.health_steps == int(self.health_steps))
        ):
            raise ValueError(
                f"health_steps={self.health_steps} must be a whole number of steps, 1 or more, or a share of the run "
                "between 0 and 1."
            )
        if self.reference_batch_size is not None and self.reference_batch_size < 1:
            raise ValueError(f"reference_batch_size={self.reference_batch_size} must be at least 1 sample.")
        if self.ema_anneal_steps is not None and self.ema_anneal_steps < 1:
            raise ValueError(
                f"ema_anneal_steps={self.ema_anneal_steps} must be at least 1; for a constant decay set both decays "
                "alike."
            )

    def _check_batches_of(self, tokens: int) -> None:
        if tokens < 1:
            raise ValueError(f"max_tokens_per_batch={tokens} must be 1 or more.")
        if self.train_sampling_strategy not in ("random", "group_by_length"):
            raise ValueError(
                f"max_tokens_per_batch={tokens} puts samples of similar length into one batch, so it does not go with "
                f"train_sampling_strategy={self.train_sampling_strategy}. Leave one of them out."
            )
        accelerator_config: Any = self.accelerator_config
        if accelerator_config.split_batches or accelerator_config.dispatch_batches:
            raise ValueError(
                "max_tokens_per_batch can't be used with split_batches or dispatch_batches of accelerator_config: "
                "each process reads batches of its own. Leave them out."
            )
