"""Configuration of a data2vec model around any encoder."""

from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .remote_code_data2vec_generic import unknown_encoder_config

TARGET_NORMS = ("batch", "instance", "layer")
CHOICES = {
    "teacher_embeddings": ("ema", "copy"),
    "student_input": ("mask_token", "visible"),
    "target_source": ("ffn", "block"),
    "predictor": ("linear", "mlp", "conv"),
    "cls_loss_reduction": ("mean", "sum"),
}
POSITIVE = ("num_masks", "decoder_dim", "decoder_layers", "decoder_kernel_size", "decoder_groups")
NOT_NEGATIVE = ("mask_noise_std", "loss_beta", "cls_loss_weight")


class Data2VecGenericConfig(PreTrainedConfig):
    """What a data2vec model must know: its encoder and the settings of the objective.

    data2vec (arXiv 2202.03555) and data2vec 2.0 (arXiv 2212.07525) are the same computation with different settings;
    the defaults are those of the first paper for a modality of unknown kind.

    Args:
        encoder_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder; any that `AutoModel.from_config` takes. A dict needs its `model_type`.
        teacher_embeddings (`"ema"` or `"copy"`, defaults to `"ema"`):
            Whether the part of the teacher that runs before its first block is averaged like the rest or copied from
            the student after each step. "copy" covers word, position and patch embeddings, CLS and feature
            projections, not a positional convolution, which is always averaged.
        student_input (`"mask_token"` or `"visible"`, defaults to `"mask_token"`):
            The student reads the whole sequence with a mask embedding at the masked positions, or the visible
            positions alone (data2vec 2.0, section 3.2).
        num_masks (`int`, defaults to 1): Masks per sample that share one pass of the teacher; M in the papers.
        average_top_k_layers (`int`, *optional*):
            Number of top blocks whose outputs make the target; K in the papers. `None` takes every block.
        target_source (`"ffn"` or `"block"`, defaults to `"ffn"`):
            A block's feed-forward output before dropout, residual and norm, or the block's own output.
        target_layer_norms, target_final_norms (`list[str]`, default to `["instance"]` and `[]`):
            Norms without parameters for each layer's output and for their mean, out of "batch", "instance", "layer".
        ignore_padding (`bool`, defaults to `True`):
            Padding takes no part in the statistics of the target norms, is not read by a student that reads visible
            positions and is held at zero in the convolutional decoder. `False` computes what the papers' own
            implementation does, which treats padding as content.
        predictor (`"linear"`, `"mlp"` or `"conv"`, defaults to `"linear"`):
            One linear layer, two with GELU in between, or a convolutional decoder (needed by "visible").
        decoder_dim, decoder_layers, decoder_kernel_size, decoder_groups (`int`, default to 384, 4, 7, 16):
            Width, depth, kernel and groups of the convolutional decoder; the kernel is square for images.
        decoder_residual (`bool`, defaults to `True`): Add a decoder layer's input to its output where the widths
            agree.
        decoder_projection_layers (`int`, defaults to 1):
            Linear layers after the convolutions; all but the last are twice `decoder_dim` wide.
        mask_noise_std (`float`, defaults to 0.01): Standard deviation of the noise at masked places of the decoder's
            input.
        loss_beta (`float`, defaults to 0.0): Where the smooth L1 loss turns linear; 0 is the squared error.
        loss_scale (`float`, *optional*): Factor of the loss; `None` is 1/sqrt(C), C the width of the encoder.
        cls_loss_weight (`float`, defaults to 0.0): Weight of the loss between CLS and the mean target, averaged over
            the rows of the optimizer step, each row counting by its masked positions; 0 leaves it out. data2vec 2.0
            was published with 2.56 (base) and 1.28 (large, huge).
        cls_loss_reduction (`"mean"` or `"sum"`, defaults to `"mean"`): How `cls_loss_weight` is to be understood.
            "sum" is what a config stands for that was saved when the weight was that of a sum over rows; a model
            with such a CLS loss can't be pre-trained on.

    Raises:
        ValueError: a field is out of its range, or two of them contradict each other.
    """

    model_type = "data2vec_generic"
    # transformers needs a default type to describe the class; a model without encoder_config is refused.
    sub_configs_defaults = {"encoder_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True)}

    encoder_config: dict[str, Any] | PreTrainedConfig | None = None
    teacher_embeddings: str = "ema"
    student_input: str = "mask_token"
    num_masks: int = 1
    average_top_k_layers: int | None = None
    target_source: str = "ffn"
    target_layer_norms: list[str] | tuple[str, ...] = ("instance",)
    target_final_norms: list[str] | tuple[str, ...] = ()
    ignore_padding: bool = True
    predictor: str = "linear"
    decoder_dim: int = 384
    decoder_layers: int = 4
    decoder_kernel_size: int = 7
    decoder_groups: int = 16
    decoder_residual: bool = True
    decoder_projection_layers: int = 1
    mask_noise_std: float = 0.01
    loss_beta: float = 0.0
    loss_scale: float | None = None
    cls_loss_weight: float = 0.0
    cls_loss_reduction: str = "mean"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; a saved config whose `cls_loss_weight` is that of a sum over rows is told by lacking
        `cls_loss_reduction`."""
        was_saved = "transformers_version" in config_dict
        if was_saved and config_dict.get("cls_loss_weight") and "cls_loss_weight" not in kwargs:
            config_dict = {"cls_loss_reduction": "sum"} | config_dict
        return super().from_dict(config_dict, **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        encoder_config = self.encoder_config
        if isinstance(encoder_config, dict) and encoder_config.get("model_type", "bert") not in CONFIG_MAPPING:
            self.encoder_config = unknown_encoder_config(encoder_config)
        if isinstance(self.encoder_config, PreTrainedConfig):  # transformers would reset it to its default
            kwargs.setdefault("attn_implementation", self.encoder_config._attn_implementation)
        super().__post_init__(**kwargs)
        self.target_layer_norms = list(self.target_layer_norms)
        self.target_final_norms = list(self.target_final_norms)
        self._check_fields()

    def _check_fields(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(repr, choices))}.")
        for name in ("target_layer_norms", "target_final_norms"):
            if unknown := sorted(set(getattr(self, name)) - set(TARGET_NORMS)):
                raise ValueError(f"{name} holds {unknown}; choose from {list(TARGET_NORMS)}.")
        for name in POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
        if self.average_top_k_layers is not None and self.average_top_k_layers < 1:
            raise ValueError(
                f"average_top_k_layers={self.average_top_k_layers} must be at least 1; leave it out to take every "
                "block."
            )
        if self.decoder_projection_layers < 1:
            raise ValueError(f"decoder_projection_layers={self.decoder_projection_layers} must be at least 1.")
        if self.loss_scale is not None and self.loss_scale <= 0:
            raise ValueError(f"loss_scale={self.loss_scale} must be above 0; leave it out to scale by 1/sqrt(C).")
        if self.student_input == "visible" and self.predictor != "conv":
            raise ValueError(
                f"student_input='visible' with predictor={self.predictor!r} has nothing to predict from: the student "
                "does not encode masked positions, and only a decoder that looks at their neighbours can fill them "
                "in. Set predictor='conv', or student_input='mask_token'."
            )


__all__ = ["Data2VecGenericConfig"]
