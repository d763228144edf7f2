"""data2vec around any encoder: the plain encoder, and the encoder with its teacher for pre-training.

Shapes: B samples, M masks per sample, R = B * M rows (b0m0, b0m1, ..., b1m0, ...), T content positions (patches,
frames or tokens, without prefix tokens such as CLS), C channels, N masked positions.
"""

import copy
import dataclasses
import math
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .backbone_data2vec_generic import VisiblePositions, masked_content, recorded_layers, visible_only
from .configuration_data2vec_generic import Data2VecGenericConfig
from .float32_copy_data2vec_generic import EncoderTemplate
from .geometry_data2vec_generic import grid_of, patch_sides, real_positions
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, find_layout
from .measurements_data2vec_generic import (
    BackboneMeasurements,
    all_inputs,
    encode,
    longest_text,
    made_up_sample,
    main_input,
    measure,
    require_visible_only,
)
from .objective_data2vec_generic import (
    ConvDecoder,
    average_targets,
    cls_loss,
    linear_predictor,
    mlp_predictor,
    regression_loss,
)
from .remote_code_data2vec_generic import (
    encoder_from_config,
    require_safetensors,
    save_encoder_code,
    with_encoder_code,
)

_LAYER_DROP = re.compile(r"layer_?drop(?!out)")


@dataclass
class Data2VecGenericForPreTrainingOutput(ModelOutput):
    """Output of [`Data2VecGenericForPreTraining`].

    Args:
        loss: scalar, summed over rows and channels and divided by the number of masked positions, plus the CLS term.
        predictions: (N, C), rows of masked positions, row-major over B, M, T.
        targets: (N, C) float32, in the same order.
        num_masked: scalar, N.
    """

    loss: Tensor | None = None
    predictions: Tensor | None = None
    targets: Tensor | None = None
    num_masked: Tensor | None = None


class Data2VecGenericPreTrainedModel(PreTrainedModel):
    """What both models share: building the encoder, saving the code beside the weights."""

    config_class = Data2VecGenericConfig
    # Not "encoder": transformers would rename the student's keys, and with them the teacher's.
    base_model_prefix = "data2vec_generic"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModel": "modeling_data2vec_generic.Data2VecGenericModel",
        "AutoModelForPreTraining": "modeling_data2vec_generic.Data2VecGenericForPreTraining",
    }
    supports_gradient_checkpointing = True
    # The encoder checks for itself which attention it can run.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        if encoder is None and config.encoder_config is None:
            raise ValueError(
                f"{type(self).__name__} needs an encoder: set encoder_config in the config, e.g. "
                "AutoConfig.for_model('vit'), or pass encoder=."
            )
        if encoder is not None:
            config.encoder_config = encoder.config
            for module in encoder.modules():  # its weights stay as they are when this model is initialised
                vars(module)["_is_hf_initialized"] = True
        super().__init__(config)
        if encoder is None:
            encoder = encoder_of(encoder_from_config(config.encoder_config, config.name_or_path))
        self.encoder = encoder
        config.encoder_config = self.encoder.config
        self.main_input_name = main_input(self.encoder)
        self._no_split_modules = self.encoder._no_split_modules

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """As ever, from safetensors unless `use_safetensors=False`. `trust_remote_code=True` also runs the code of an
        encoder that is not in transformers.

        Raises:
            ValueError: a folder holds its weights as pickles only.
        """
        if kwargs.setdefault("use_safetensors", True) and pretrained_model_name_or_path is not None:
            require_safetensors(os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder") or ""))
        if kwargs.get("trust_remote_code"):
            kwargs = with_encoder_code(cls.config_class, pretrained_model_name_or_path, kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's own input embeddings."""
        return self.encoder.get_input_embeddings()

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save config, weights and the code that loads them, for `AutoModel` with `trust_remote_code=True`."""
        self.config.auto_map = dict(self._auto_map)
        save_encoder_code(self.encoder, save_directory)
        # Trainer resumes by load_state_dict, which knows the names in memory only, not those of older checkpoints.
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, *args, **kwargs)


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder of an encoder-decoder (T5, BART, Whisper); any other model is one by itself.

    Raises:
        UnsupportedBackboneError: the encoder is no model of its own, with a configuration.
    """
    encoder = model.get_encoder() if type(model.config).is_encoder_decoder else model
    if not isinstance(encoder, PreTrainedModel):
        raise UnsupportedBackboneError(
            f"{describe(model)} has an encoder, {type(encoder).__name__}, that is no PreTrainedModel, so it can't be "
            "configured, saved and loaded by itself. Choose another type, e.g. bart or t5."
        )
    return encoder


class Data2VecGenericModel(Data2VecGenericPreTrainedModel):
    """The plain encoder of a data2vec checkpoint: its forward pass is the encoder's own.

    Args:
        config: its `encoder_config` says which encoder.
        encoder: use this one instead of a new one from the config.
    """

    _auto_class = "AutoModel"  # makes save_pretrained copy the code
    _keys_to_ignore_on_load_unexpected = [r"^teacher\.", r"^predictor\.", r"^mask_embedding$"]

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config, encoder)
        self.post_init()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Arguments and output are those of the encoder."""
        return self.encoder(*args, **kwargs)


class Data2VecGenericForPreTraining(Data2VecGenericPreTrainedModel):
    """Student, teacher and predictor with the data2vec objective.

    The teacher starts as an exact copy of the student, stays in eval mode without gradients, and is moved by
    `modeling_data2vec_generic.training.teacher.EMATeacher` after each optimizer step.

    Args:
        config: the encoder and the objective.
        encoder: student to start from instead of a new one from the config. Its spec augmentation and layer drop are
            turned off: the masks are ours, and the teacher's layers must all run.

    Raises:
        UnsupportedBackboneError: the encoder lacks one of the layout that data2vec needs.
        ValueError: K is larger than the depth, the decoder's groups do not divide the widths, or the weight of the
            CLS loss is that of a sum over rows.
    """

    _auto_class = "AutoModelForPreTraining"

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        _refuse_sum_over_rows(config)
        super().__init__(config, encoder)
        _turn_off_own_masking(self.encoder)
        self.layout: BackboneLayout = find_layout(self.encoder)
        self._template = EncoderTemplate(self.encoder)
        # Tables of sines, for instance; loading a checkpoint makes everything trainable.
        self._fixed = {name for name, parameter in self.encoder.named_parameters() if not parameter.requires_grad}
        self.measurements: BackboneMeasurements | None = None
        self._saw_batch = False
        self._look_at_encoder()
        self.teacher = copy.deepcopy(self.encoder)
        width = self.layout.width
        self.reads_images = self.main_input_name == "pixel_values" and not hasattr(self.encoder.config, "num_frames")
        self.predictor: nn.Module
        if config.predictor == "conv":
            self.predictor = ConvDecoder(
                width,
                config.decoder_dim,
                config.decoder_layers,
                config.decoder_kernel_size,
                config.decoder_groups,
                config.decoder_residual,
                config.decoder_projection_layers,
                two_dimensional=self.reads_images,
            )
        else:
            self.predictor = linear_predictor(width) if config.predictor == "linear" else mlp_predictor(width)
        if self._needs_mask_embedding and self.layout.mask_parameter is None:
            self.mask_embedding = nn.Parameter(torch.zeros(self.layout.content_width))
        self.post_init()
        self._freeze()

    def _look_at_encoder(self) -> None:
        """Examine the encoder on made-up input; where none can be made up, the first batch will do.

        While a checkpoint is being loaded there is nothing to run yet; loading ends with a call of `train`.
        """
        if self.measurements is not None or any(parameter.is_meta for parameter in self.encoder.parameters()):
            return
        inputs = made_up_sample(self.encoder, self.layout, self._template)
        if inputs is not None:
            self.measurements = self._measured(inputs)

    def _measured(self, inputs: dict[str, Any]) -> BackboneMeasurements:
        measurements = measure(self.encoder, self.layout, inputs, self._template)
        wanted = self.config.average_top_k_layers or 1
        if wanted > measurements.num_layers:
            raise ValueError(
                f"average_top_k_layers={wanted} is larger than the depth of the encoder, which has "
                f"{measurements.num_layers} blocks. Choose 1 to {measurements.num_layers}."
            )
        if self.config.cls_loss_weight and measurements.prefix == 0:
            raise ValueError(
                f"cls_loss_weight={self.config.cls_loss_weight} needs a prefix token such as CLS, and "
                f"{type(self.encoder).__name__} has none. Set it to 0."
            )
        if self.config.student_input == "visible":
            require_visible_only(self.encoder, self.layout, measurements, inputs, self._template)
        return measurements

    def _measurements_for(self, inputs: dict[str, Any]) -> BackboneMeasurements:
        if self.measurements is None:
            self.measurements = self._measured(longest_text(inputs) if self.layout.reads_tokens else inputs)
            self._freeze()
        elif not self._saw_batch and self.layout.reads_tokens and self.config.student_input == "visible":
            # Attention may be another one in long texts than it was in the short one that was made up.
            text = longest_text(inputs)
            seen = dataclasses.replace(self.measurements, length=text[self.main_input_name].shape[1])
            require_visible_only(self.encoder, self.layout, seen, text, self._template)
        self._saw_batch = True
        return self.measurements

    @property
    def _needs_mask_embedding(self) -> bool:
        """A student that drops masked positions has no use for one; token encoders have their mask token."""
        return self.config.student_input == "mask_token" and not self.layout.reads_tokens

    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            if hasattr(self, "mask_embedding"):
                init.normal_(self.mask_embedding, std=0.02)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):  # torch's own initialisation, as in the papers
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.weight[0].numel())
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)

    def train(self, mode: bool = True) -> "Data2VecGenericForPreTraining":
        """As ever, but the teacher stays in eval mode and frozen: loading a checkpoint resets `requires_grad`."""
        super().train(mode)
        if hasattr(self, "teacher"):
            self._look_at_encoder()
            self._freeze()
        return self

    def _freeze(self) -> None:
        self.teacher.eval()
        self.teacher.requires_grad_(False)
        parameters = dict(self.encoder.named_parameters())
        unused = frozenset() if self.measurements is None else self.measurements.unused
        for name in self._fixed | unused:
            parameters[name].requires_grad_(False)
        if self.layout.mask_parameter is not None and not self._needs_mask_embedding:
            parameters[self.layout.mask_parameter].requires_grad_(False)

    def copied_parameters(self) -> frozenset[str]:
        """Names of the encoder's parameters that `teacher_embeddings="copy"` copies instead of averaging.

        Raises:
            RuntimeError: no forward pass has been made yet, which shows what runs before the first block.
        """
        if self.config.teacher_embeddings == "ema":
            return frozenset()
        if self.measurements is None:
            raise RuntimeError("teacher_embeddings='copy' is resolved in a forward pass, and none has been made yet.")
        return frozenset(name for name, _ in self.encoder.named_parameters() if self.measurements.embeds(name))

    def mask_noise(self, like: Tensor, count: int) -> Tensor:
        """(count, C) noise for the masked places of the decoder's input, of the dtype and device of `like`."""
        return torch.randn(count, like.shape[-1], dtype=like.dtype, device=like.device) * self.config.mask_noise_std

    def forward(
        self,
        mask: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        return_loss: bool = True,
        **inputs: Any,
    ) -> Data2VecGenericForPreTrainingOutput:
        """One pass of the teacher over the full input and of the student over the masked one.

        Args:
            mask: (B, M, T) or, with one mask, (B, T) bool; True = to be predicted.
            num_items_in_batch: masked positions of the whole optimizer step, by which the loss is divided; `None`:
                those of this batch.
            return_loss: there so that `Trainer` knows that the loss needs no labels.
            inputs: what the encoder takes, which is what the teacher reads. For any input NAME, `student_NAME` of
                shape (B, M, ...) or, with one mask, of NAME's own shape is what the student reads instead. Where the
                student gets its own main input, masked positions already hold what they should (text: the mask token).
        """
        mask = mask.bool().unsqueeze(1) if mask.ndim == 2 else mask.bool()
        samples, num_masks, length = mask.shape
        rows_mask = mask.flatten(0, 1)
        masked = rows_mask.flatten().nonzero().squeeze(1)
        if len(masked) == 0:
            raise ValueError("mask covers no position of the batch, so there is nothing to predict. Raise mask_ratio.")
        student_inputs = {
            name.removeprefix("student_"): inputs.pop(name) for name in list(inputs) if name.startswith("student_")
        }
        measurements = self._measurements_for(inputs)
        real = None
        if self.config.ignore_padding:
            real = real_positions(self.encoder, inputs, length, measurements.stride)

        targets = self._targets(inputs, length, real, measurements)
        grid = None
        if self.reads_images and (self.layout.hierarchical or isinstance(self.predictor, ConvDecoder)):
            grid = grid_of(inputs[self.main_input_name].shape, length, patch_sides(self.encoder.config))
        if self.config.student_input == "visible":
            encoded, positions = self._encode_visible(inputs, student_inputs, mask, real, measurements)
            content = self._reassemble(encoded[:, measurements.prefix :], positions, masked, length)
        else:
            encoded = self._encode_masked(inputs, student_inputs, mask, grid, measurements)
            content = encoded[:, measurements.prefix : measurements.prefix + length]
        if isinstance(self.predictor, ConvDecoder):
            rows_real = None if real is None else real.repeat_interleave(num_masks, 0)
            predictions = self.predictor(self._each_series(content), grid, rows_real, masked)
        else:
            predictions = self.predictor(content.flatten(0, 1).index_select(0, masked))
        target_rows = masked // (num_masks * length) * length + masked % length
        masked_targets = targets.flatten(0, 1).index_select(0, target_rows)

        loss = regression_loss(predictions, masked_targets, self.config.loss_beta, self.config.loss_scale)
        if self.config.cls_loss_weight:
            # Registers and distillation tokens come after CLS.
            loss = loss + self.config.cls_loss_weight * self._cls_loss(encoded[:, 0], targets, real, mask)
        loss = loss / (len(masked) if num_items_in_batch is None else num_items_in_batch)
        return Data2VecGenericForPreTrainingOutput(
            loss=loss, predictions=predictions, targets=masked_targets, num_masked=mask.sum()
        )

    def _each_series(self, hidden: Tensor) -> Tensor:
        """(R, T, C) -> (R * channels, T / channels, C) for encoders of time series that keep their channels apart."""
        if not self.layout.quirks.channels_apart:
            return hidden
        return hidden.reshape(-1, hidden.shape[1] // self.encoder.config.num_input_channels, hidden.shape[2])

    @torch.no_grad()
    def _targets(
        self, inputs: dict[str, Any], length: int, real: Tensor | None, measurements: BackboneMeasurements
    ) -> Tensor:
        """(B, T, C) float32: the teacher's view of the full input."""
        prefix = measurements.prefix
        with recorded_layers(self.teacher, self.layout, self.config.target_source) as layers:
            self.teacher(**all_inputs(self.layout, inputs, length))
        if layers[0].shape[1] < prefix + length:
            raise ValueError(
                f"mask has {length} positions per sample, but the encoder's blocks see only "
                f"{layers[0].shape[1] - prefix}. It must have one entry per patch, frame or token, without prefix "
                "tokens such as CLS."
            )
        top = layers[-(self.config.average_top_k_layers or len(layers)) :]
        content = [self._each_series(layer[:, prefix : prefix + length]) for layer in top]
        targets = average_targets(content, self.config.target_layer_norms, self.config.target_final_norms, real)
        return targets.view(-1, length, targets.shape[-1])

    def _encode_masked(
        self,
        inputs: dict[str, Any],
        student_inputs: dict[str, Any],
        mask: Tensor,
        grid: tuple[int, int] | None,
        measurements: BackboneMeasurements,
    ) -> Tensor:
        """(R, prefix + T, C): the student on the whole sequence, its content replaced at masked positions."""
        _, num_masks, length = mask.shape
        inputs = _repeated(inputs, num_masks) | _flattened(student_inputs, inputs)
        if self.main_input_name in student_inputs:
            return encode(self.encoder, self.layout, inputs, length, measurements.takes_last_block)
        embedding = None
        if self.layout.mask_parameter is not None:
            embedding = self.encoder.get_parameter(self.layout.mask_parameter)
        elif not self.layout.reads_tokens:
            embedding = self.mask_embedding
        with masked_content(
            self.encoder,
            self.layout,
            mask.flatten(0, 1),
            embedding,
            stride=measurements.stride,
            grid=grid,
            copies=num_masks,
            entry=measurements.entry,
        ):
            return encode(self.encoder, self.layout, inputs, length, measurements.takes_last_block)

    def _encode_visible(
        self,
        inputs: dict[str, Any],
        student_inputs: dict[str, Any],
        mask: Tensor,
        real: Tensor | None,
        measurements: BackboneMeasurements,
    ) -> tuple[Tensor, VisiblePositions]:
        """(R, prefix + V, C): the student on the visible positions alone, and which they are."""
        _, num_masks, length = mask.shape
        rows_mask = mask.flatten(0, 1)
        visible, padding = ~rows_mask, None
        if real is not None:
            rows_real = real.repeat_interleave(num_masks, 0)
            visible, padding = visible & rows_real, ~rows_real
        positions = VisiblePositions(visible, padding)
        index = positions.full_index(measurements.prefix)
        rows = torch.arange(len(rows_mask), device=mask.device)
        own_content = self.main_input_name in student_inputs
        with ExitStack() as stack:
            if own_content or measurements.mixes_neighbours:
                # Masked content must be gone before a neighbour can see it, so each mask needs embeddings of its own.
                inputs = _repeated(inputs, num_masks) | _flattened(student_inputs, inputs)
                stack.enter_context(
                    masked_content(
                        self.encoder,
                        self.layout,
                        rows_mask,
                        None,
                        stride=measurements.stride,
                        copies=1 if own_content else num_masks,
                        entry=measurements.entry,
                    )
                )
            else:
                rows = rows // num_masks
            stack.enter_context(visible_only(self.encoder, self.layout, index, rows, measurements.prefix, length))
            return encode(self.encoder, self.layout, inputs, length, measurements.takes_last_block), positions

    def _reassemble(self, encoded: Tensor, positions: VisiblePositions, masked: Tensor, length: int) -> Tensor:
        """(R, V, C) -> (R, T, C): visible positions back in their places, noise at masked ones, zero at padding."""
        rows, _, width = encoded.shape
        dense = encoded.new_zeros(rows, length, width)
        dense = dense.scatter(1, positions.index.unsqueeze(-1).expand_as(encoded), encoded)
        noise = self.mask_noise(encoded, len(masked))
        return dense.flatten(0, 1).index_copy(0, masked, noise).view(rows, length, width)

    def _cls_loss(self, cls: Tensor, targets: Tensor, real: Tensor | None, mask: Tensor) -> Tensor:
        """See `cls_loss`; targets are averaged over all positions, or over those that are not padding."""
        if real is None:
            mean = targets.mean(1)
        else:
            weight = real.unsqueeze(-1).to(targets.dtype)
            mean = (targets * weight).sum(1) / weight.sum(1).clamp(min=1)
        mean = mean.repeat_interleave(mask.shape[1], 0)
        num_masked = mask.sum(-1).flatten()
        return cls_loss(cls, mean, num_masked, self.config.loss_beta, self.config.loss_scale)


def _refuse_sum_over_rows(config: Data2VecGenericConfig) -> None:
    if config.cls_loss_weight and config.cls_loss_reduction == "sum":
        raise ValueError(
            f"cls_loss_weight={config.cls_loss_weight} was saved when it was the weight of a sum over rows; now it is "
            "that of their mean, which does not grow with the batch. Give the weight that you want to train with, "
            "e.g. from_pretrained(..., cls_loss_weight=2.56) as data2vec 2.0 base was published with: the old weight "
            "times the rows of an optimizer step (samples × num_masks) is what it stood for. 0 leaves the CLS loss "
            "out. Data2VecGenericModel, the plain encoder, loads as it is."
        )


def _turn_off_own_masking(encoder: PreTrainedModel) -> None:
    """Encoders mask their input (spec augmentation) and skip blocks (layer drop) by themselves when they train; here
    the collator masks, and every block runs.

    Some read the rate of layer drop from their configuration in each forward pass, under several names, and others
    from the module that runs the blocks, which took it when it was built: it is 0 in all of them afterwards. What the
    configuration of an encoder-decoder says of the decoder stays.
    """
    configs = {id(encoder.config): encoder.config}
    for module in encoder.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig):
            configs[id(config)] = config
        _turn_off_layer_drop(module)
    for config in configs.values():
        _turn_off_layer_drop(config)
        if hasattr(config, "mask_time_prob"):
            config.apply_spec_augment = False  # data2vec-audio reads it, but its config does not declare it


def _turn_off_layer_drop(owner: Any) -> None:
    """Set a module's or configuration's rate of layer drop to 0, whatever it is called."""
    for name in vars(owner):
        if _LAYER_DROP.search(name) and "decoder" not in name:
            setattr(owner, name, 0.0)


def _repeated(inputs: dict[str, Any], times: int) -> dict[str, Any]:
    """Each sample `times` times in a row: (B, ...) -> (R, ...)."""
    return {
        name: value.repeat_interleave(times, 0) if isinstance(value, Tensor) and value.ndim else value
        for name, value in inputs.items()
    }


def _flattened(student_inputs: dict[str, Tensor], inputs: dict[str, Any]) -> dict[str, Tensor]:
    """(B, M, ...) -> (R, ...); what has no axis of masks stays as it is."""
    return {
        name: value.flatten(0, 1) if value.ndim > inputs[name].ndim else value
        for name, value in student_inputs.items()
    }


__all__ = [
    "Data2VecGenericForPreTraining",
    "Data2VecGenericForPreTrainingOutput",
    "Data2VecGenericModel",
    "Data2VecGenericPreTrainedModel",
]
