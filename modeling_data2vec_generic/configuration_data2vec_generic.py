"""Configuration of a data2vec model with any encoder."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .remote_code_data2vec_generic import encoder_config_of

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
    """Configuration of a data2vec model: its encoder and the settings of the objective.

    data2vec (arXiv 2202.03555) and data2vec 2.0 (arXiv 2212.07525) are the same computation with different settings.
    The defaults are settings of the first paper that suit any modality.

    Args:
        encoder_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder; any that `AutoModel.from_config` takes. A dict must hold `model_type`.
        teacher_embeddings (`"ema"` or `"copy"`, defaults to `"ema"`):
            How the part of the teacher that runs before the first block follows the student: by the moving average,
            like the rest of the teacher, or as a copy after each step. "copy" applies to word, position and patch
            embeddings, CLS and feature projections. A positional convolution is always averaged.
        student_input (`"mask_token"` or `"visible"`, defaults to `"mask_token"`):
            What the student reads: the whole sequence with a mask embedding at the masked positions, or the visible
            positions alone (data2vec 2.0, section 3.2).
        num_masks (`int`, defaults to 1):
            Number of masks per sample, for which the teacher runs once (data2vec 2.0, section 3.2, M there).
        average_top_k_layers (`int`, *optional*):
            Number of top blocks whose outputs are averaged to make the target; K in the papers. `None` takes all.
        target_source (`"ffn"` or `"block"`, defaults to `"ffn"`):
            Whether the target is made of a block's feed-forward output before dropout, residual and norm, or of the
            block's own output.
        target_layer_norms, target_final_norms (`list[str]`, default to `["instance"]` and `[]`):
            Norms without parameters that are applied to the output of each layer and to their mean. Each is "batch",
            "instance" or "layer".
        ignore_padding (`bool`, defaults to `True`):
            Whether padding is left out: of the statistics of the target norms, of what a student with
            `student_input="visible"` reads, and of the convolutional decoder, whose input there is zero. With `False`,
            padding is treated as content, as the papers' own implementation does.
        predictor (`"linear"`, `"mlp"` or `"conv"`, defaults to `"linear"`):
            One linear layer, two with GELU in between, or a convolutional decoder. `student_input="visible"` needs
            "conv".
        decoder_dim, decoder_layers, decoder_kernel_size, decoder_groups (`int`, default to 384, 4, 7, 16):
            Width, number of layers, kernel size and groups of the convolutional decoder. The kernel is square for
            images.
        decoder_residual (`bool`, defaults to `True`):
            Whether a decoder layer's input is added to its output, if both have the same width.
        decoder_projection_layers (`int`, defaults to 1):
            Number of linear layers after the convolutions. All but the last are twice `decoder_dim` wide.
        mask_noise_std (`float`, defaults to 0.01):
            Standard deviation of the noise that the convolutional decoder is given at masked positions.
        loss_beta (`float`, defaults to 0.0):
            Absolute error above which the smooth L1 loss is linear; 0 is the squared error.
        loss_scale (`float`, *optional*):
            Factor of the loss. `None` means 1/sqrt(C), where C is the width of the encoder.
        cls_loss_weight (`float`, defaults to 0.0):
            Weight of the loss between CLS and the mean of the targets. It is averaged over the rows of the optimizer
            step, weighted by their numbers of masked positions. 0 leaves it out. data2vec 2.0 was published with 2.56
            (base) and 1.28 (large, huge).
        cls_loss_reduction (`"mean"` or `"sum"`, defaults to `"mean"`):
            What `cls_loss_weight` is the weight of: the mean over rows, or their sum. "sum" is set in configurations
            of earlier versions, in which it was the sum. A model with such a CLS loss can't be pre-trained further.

    Raises:
        ValueError: a field is out of its range, or two fields contradict each other.
    """

    model_type = "data2vec_generic"
    sub_configs = {"encoder_config": AutoConfig}

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
        """Make a configuration of a dict as `PreTrainedConfig.from_dict` does.

        If the dict was saved with a `cls_loss_weight` and without `cls_loss_reduction`, the latter is set to "sum".
        """
        was_saved = "transformers_version" in config_dict
        if was_saved and config_dict.get("cls_loss_weight") and "cls_loss_weight" not in kwargs:
            config_dict = {"cls_loss_reduction": "sum"} | config_dict
        return super().from_dict(config_dict, **kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.encoder_config, dict):
            self.encoder_config = encoder_config_of(self.encoder_config)
        if isinstance(self.encoder_config, PreTrainedConfig):  # transformers would reset its attn_implementation
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
                "does not encode masked positions, and only a decoder that reads their neighbours can predict them. "
                "Set predictor='conv', or student_input='mask_token'."
            )


__all__ = ["Data2VecGenericConfig"]
