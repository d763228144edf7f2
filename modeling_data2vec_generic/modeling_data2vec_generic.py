"""data2vec for any encoder: the plain encoder, and the encoder with teacher and predictor for pre-training.

Shapes: B samples, M masks per sample, R = B * M rows (sample 0 with mask 0, sample 0 with mask 1, ..., sample 1 with
mask 0, ...), T content positions (patches, frames or tokens, without prefix tokens such as CLS), V visible positions,
C channels, N masked positions.
"""

import copy
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .backbone_data2vec_generic import masked_content, recorded_layers, visible_only
from .configuration_data2vec_generic import Data2VecGenericConfig
from .documents_data2vec_generic import DocumentSeam, document_seam, documents_apart, spread_out
from .float32_copy_data2vec_generic import EncoderTemplate
from .geometry_data2vec_generic import grid_of, patch_sides, real_positions
from .half_copy_data2vec_generic import HalfPrecisionCopy
from .inputs_data2vec_generic import all_inputs, longest_text, made_up_inputs, main_input, repeated
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, find_layout
from .mask_positions_data2vec_generic import MaskPositions
from .measurements_data2vec_generic import BackboneMeasurements, encode, made_up_sample, measure, require_visible_only
from .objective_data2vec_generic import average_targets, cls_loss, regression_loss
from .padding_data2vec_generic import known_padding, models_within
from .predictors_data2vec_generic import ConvDecoder, linear_predictor, mlp_predictor
from .remote_code_data2vec_generic import (
    encoder_from_config,
    require_safetensors,
    save_encoder_code,
    with_encoder_code,
)
from .shared_content_data2vec_generic import SharedContent

_LAYER_DROP = re.compile(r"layer_?drop(?!out)")


@dataclass
class Data2VecGenericForPreTrainingOutput(ModelOutput):
    """Output of [`Data2VecGenericForPreTraining`].

    Args:
        loss: scalar. The regression loss, and the CLS loss if it has a weight, summed over masked positions and
            channels and divided by the number of masked positions.
        predictions: (N, C), the predictions at the masked positions, in the order of B, then M, then T.
        targets: (N, C) float32, the targets in the same order.
        num_masked: scalar, N.
        position_targets: (B, T, C) float32, the targets of all positions, in place of `targets` if
            `return_targets=False`.
    """

    loss: Tensor | None = None
    predictions: Tensor | None = None
    targets: Tensor | None = None
    num_masked: Tensor | None = None
    position_targets: Tensor | None = None


class Data2VecGenericPreTrainedModel(PreTrainedModel):
    """Base class of all models of this package: builds the encoder, and saves the code beside the weights.

    Args:
        config: its `encoder_config` says which encoder.
        encoder: use this one instead of a new one from the config.

    Raises:
        ValueError: neither of them names an encoder.
    """

    config_class = Data2VecGenericConfig
    # It must differ from "encoder": transformers would rename the student's keys, and the teacher's with them.
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
            for module in encoder.modules():  # so that `post_init` does not initialise its weights again
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
        """Load a model as `PreTrainedModel.from_pretrained` does, with two additions.

        `use_safetensors` is True unless it is given. With `trust_remote_code=True`, the code of an encoder that is not
        in transformers is also loaded from the checkpoint.

        Raises:
            ValueError: a local folder holds its weights as pickles only, and `use_safetensors` is True.
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
        """Save config and weights as `PreTrainedModel.save_pretrained` does, and the code of model and encoder.

        The Auto classes can load the folder with `trust_remote_code=True` where this package is not installed.
        """
        self.config.auto_map = dict(self._auto_map)
        save_encoder_code(self.encoder, save_directory)
        # Trainer resumes with load_state_dict, which needs the parameter names of the model in memory. The original
        # format has the names of older checkpoints.
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, *args, **kwargs)


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder of an encoder-decoder (T5, BART, Whisper), or the model itself if it is none.

    Raises:
        UnsupportedBackboneError: the encoder is not a `PreTrainedModel`.
    """
    encoder = model.get_encoder() if type(model.config).is_encoder_decoder else model
    if not isinstance(encoder, PreTrainedModel):
        raise UnsupportedBackboneError(
            f"{describe(model)} has an encoder, {type(encoder).__name__}, that is not a PreTrainedModel, so it can't "
            "be configured, saved and loaded by itself. Choose another type, e.g. bart or t5."
        )
    return encoder


class Data2VecGenericModel(Data2VecGenericPreTrainedModel):
    """The plain encoder of a data2vec checkpoint, without teacher and predictor.

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
        """Run the encoder. Arguments and output are those of its own forward pass."""
        return self.encoder(*args, **kwargs)


class Data2VecGenericForPreTraining(Data2VecGenericPreTrainedModel):
    """Student, teacher and predictor with the data2vec objective.

    The teacher starts as an exact copy of the student and stays in evaluation mode without gradients. After each
    optimizer step, `modeling_data2vec_generic.training.teacher.EMATeacher` moves it towards the student.

    Args:
        config: the encoder and the objective.
        encoder: the student to start from instead of a new one from the config. Its own masking (spec augmentation)
            and layer drop are turned off: the data collator makes the masks, and all layers of the teacher must run.

    Attributes:
        models_within: student and teacher, and the models of transformers inside them.
        teacher_copy: copies of the teacher's weights that its passes under autocast read. The Trainer sets it while it
            trains; `None` lets autocast cast the weights in every pass.

    Raises:
        UnsupportedBackboneError: data2vec does not find what it needs in the encoder.
        ValueError: `average_top_k_layers` is larger than the number of blocks, `decoder_groups` does not divide the
            widths, the CLS loss has a weight and the encoder has no prefix token, `cls_loss_reduction` is "sum", or a
            weight holds NaN or infinity.
    """

    _auto_class = "AutoModelForPreTraining"

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        _refuse_sum_over_rows(config)
        super().__init__(config, encoder)
        _turn_off_own_masking(self.encoder)
        self.layout: BackboneLayout = find_layout(self.encoder)
        self._template = EncoderTemplate(self.encoder)
        # Tables of sines, for instance. Loading a checkpoint makes all parameters trainable.
        self._fixed = {name for name, parameter in self.encoder.named_parameters() if not parameter.requires_grad}
        self.measurements: BackboneMeasurements | None = None
        self._saw_batch = False
        self._documents: DocumentSeam | None = None
        self._saw_documents = False
        self._measure_on_made_up_input()
        self.teacher = copy.deepcopy(self.encoder)
        self.teacher_copy: HalfPrecisionCopy | None = None
        self._shared_content: SharedContent | None = None
        self.models_within = models_within(self.encoder, self.teacher)
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

    def _measure_on_made_up_input(self) -> None:
        """Measure the encoder on a made-up sample. If none can be made up, the first batch is used instead.

        While a checkpoint is being loaded, the weights are on the meta device and nothing can be run.
        `from_pretrained` ends with a call of `eval`, and so of `train`, which measures the encoder then.
        """
        if self.measurements is not None or any(parameter.is_meta for parameter in self.encoder.parameters()):
            return
        if made_up_inputs(self.encoder) is None:  # a copy would be made for nothing
            return
        encoder_copy = self._template.float32_copy(self.encoder)
        inputs = made_up_sample(self.encoder, self.layout, encoder_copy)
        if inputs is not None:
            self.measurements = self._measure_and_check(inputs, encoder_copy)

    def _measure_and_check(self, inputs: dict[str, Any], encoder_copy: PreTrainedModel) -> BackboneMeasurements:
        """Measure the encoder on these inputs and check that the configuration is possible with it."""
        measurements = measure(self.encoder, self.layout, inputs, encoder_copy)
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
            require_visible_only(self.encoder, self.layout, measurements, inputs, encoder_copy)
        return measurements

    def _measurements_for(self, inputs: dict[str, Any]) -> BackboneMeasurements:
        """The measurements, which are made on the first batch if they could not be made before."""
        if self.measurements is None:
            sample = longest_text(inputs) if self.layout.reads_tokens else inputs
            self.measurements = self._measure_and_check(sample, self._template.float32_copy(self.encoder))
            self._freeze()
        elif not self._saw_batch and self.layout.reads_tokens and self.config.student_input == "visible":
            # Some encoders use another attention in long texts than in the short text that was made up.
            text = longest_text(inputs)
            seen = dataclasses.replace(self.measurements, length=text[self.main_input_name].shape[1])
            encoder_copy = self._template.float32_copy(self.encoder)
            require_visible_only(self.encoder, self.layout, seen, text, encoder_copy)
        self._saw_batch = True
        return self.measurements

    def require_documents(self) -> None:
        """Raise an `UnsupportedBackboneError` if the encoder can't keep documents apart that share a sequence.

        An encoder that can't be measured on a made-up sample is tested on the first batch instead.
        """
        inputs = made_up_inputs(self.encoder)
        if self._documents is None and self.measurements is not None and inputs is not None:
            encoder_copy = self._template.float32_copy(self.encoder)
            self._documents = document_seam(self.encoder, self.layout, self.measurements, inputs, encoder_copy)

    @contextmanager
    def keeping_apart(self, inputs: dict[str, Any], documents: Tensor | None) -> Iterator[dict[str, Any]]:
        """The inputs with which student and teacher keep documents apart while the context lasts.

        Args:
            inputs: the encoder's own arguments.
            documents: the `document_ids` of `forward`; `None` changes nothing.

        Raises:
            UnsupportedBackboneError: the encoder can't keep them apart. The first batch is tested, whose texts may be
                longer than those that can be made up.
        """
        if documents is None:
            yield inputs
            return
        if self._documents is None or not self._saw_documents:
            text = {self.main_input_name: longest_text(inputs)[self.main_input_name]}
            encoder_copy = self._template.float32_copy(self.encoder)
            measurements = self._measurements_for(inputs)
            self._documents = document_seam(self.encoder, self.layout, measurements, text, encoder_copy)
            self._saw_documents = True
        with ExitStack() as stack:
            for encoder in (self.teacher, self.encoder):
                stack.enter_context(documents_apart(encoder, self.layout, documents, self._documents))
            yield inputs | self._documents.inputs(documents)

    @property
    def _needs_mask_embedding(self) -> bool:
        """Whether masked positions hold an embedding. Visible-only students drop them, and texts have a mask token."""
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
        """Set the mode of student and predictor as `nn.Module.train` does; the teacher stays in evaluation mode.

        Loading a checkpoint ends with a call of this method. It therefore also measures the encoder if that has not
        been done, and freezes the teacher again, because loading resets `requires_grad`. Before training, weights that
        have changed are compared, to find out whether student and teacher can share their content.
        """
        super().train(mode)
        if hasattr(self, "teacher"):
            self._measure_on_made_up_input()
            self._freeze()
            if mode and self.shared_content is not None:
                self.shared_content.compare()
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
            RuntimeError: the encoder could not be measured on a made-up sample, and no forward pass has been made yet.
        """
        if self.config.teacher_embeddings == "ema":
            return frozenset()
        if self.measurements is None:
            raise RuntimeError(
                "teacher_embeddings='copy' needs a forward pass, which shows what runs before the first block, and "
                "none has been made yet."
            )
        return frozenset(name for name, _ in self.encoder.named_parameters() if self.measurements.embeds(name))

    @property
    def shared_content(self) -> SharedContent | None:
        """The modules that need to run only once in a training step; `None` if student and teacher differ there."""
        copied = self.config.teacher_embeddings == "copy"
        if self._shared_content is None and copied and self.measurements and self.measurements.content_modules:
            self._shared_content = SharedContent(self.encoder, self.teacher, self.measurements.content_modules)
        return self._shared_content

    def shares_content(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a pass over this batch computes the content once, for student and teacher.

        It does in training, if the teacher's embeddings are copies of the student's, nothing before the content is
        random or depends on the mode, and the student reads the same inputs as the teacher.
        """
        if not (self.training and torch.is_grad_enabled()) or any(name.startswith("student_") for name in inputs):
            return False
        return self.shared_content is not None and self.shared_content.is_equal

    def mask_noise(self, like: Tensor, count: int) -> Tensor:
        """(count, C) Gaussian noise for the masked positions of the decoder's input (data2vec 2.0, section 3.2).

        Its standard deviation is `mask_noise_std`, its dtype and device are those of `like`, (..., C).
        """
        return torch.randn(count, like.shape[-1], dtype=like.dtype, device=like.device) * self.config.mask_noise_std

    def forward(
        self,
        mask: Tensor,
        num_items_in_batch: Tensor | int | None = None,
        return_loss: bool = True,
        mask_positions: MaskPositions | None = None,
        return_targets: bool = True,
        document_ids: Tensor | None = None,
        **inputs: Any,
    ) -> Data2VecGenericForPreTrainingOutput:
        """Run the teacher on the full input and the student on the masked input, and compute the loss.

        Args:
            mask: (B, M, T) or, with one mask per sample, (B, T) bool; True at positions to predict.
            num_items_in_batch: masked positions of the whole optimizer step, by which the loss is divided; `None`
                divides by those of this batch.
            return_loss: not used. `Trainer` recognises by this argument that the loss needs no labels.
            mask_positions: of this mask and this batch, as the data collators make them; with them, the pass does not
                wait for the device. `None`, or those of another mask: they are computed from the mask.
            return_targets: return the targets of the masked positions, once for each mask. False returns those of all
                positions once, which takes no further memory.
            document_ids: (B, T), the number of each position's document within its sequence, from 1 on, and 0 for
                padding. Attention, positions, target norms over time and the convolutional decoder are then those of
                each document alone. `None`: each sample is one document.
            inputs: the encoder's own arguments, which the teacher reads. The student reads them too, except where
                `student_NAME` takes the place of an input NAME: (B, M, ...) or, with one mask per sample, of the same
                shape as NAME. If the student's main input is given, its masked positions must already hold what
                replaces their content (for text, the mask token).

        Raises:
            ValueError: the mask covers no position, or does not fit the encoder's positions.
            UnsupportedBackboneError: the encoder can't keep documents apart.
        """
        if mask_positions is not None and not mask_positions.belong_to(mask):
            mask_positions = None
        mask = mask.bool().unsqueeze(1) if mask.ndim == 2 else mask.bool()
        _, num_masks, length = mask.shape
        shared = self.shared_content if self.shares_content(inputs) else None
        student_inputs = {
            name.removeprefix("student_"): inputs.pop(name) for name in list(inputs) if name.startswith("student_")
        }
        student_inputs = _flattened(student_inputs, inputs)
        measurements = self._measurements_for(inputs)
        positions = self._positions(mask, mask_positions, inputs, document_ids, measurements)
        masked, real = positions.masked, positions.real
        if len(masked) == 0:
            raise ValueError("mask covers no position of the batch, so there is nothing to predict. Raise mask_ratio.")

        outputs: dict[str, Any] = {}
        computed = nullcontext() if shared is None else shared.computed(outputs)
        replayed = nullcontext() if shared is None else shared.replayed(outputs)

        grid = None
        if self.reads_images and (self.layout.hierarchical or isinstance(self.predictor, ConvDecoder)):
            grid = grid_of(inputs[self.main_input_name].shape, length, patch_sides(self.encoder.config))
        with ExitStack() as stack:
            if self.config.ignore_padding:
                known = known_padding(inputs, real is not None, self.models_within)
                inputs = stack.enter_context(known)
            inputs = stack.enter_context(self.keeping_apart(inputs, document_ids))
            targets = self._targets(inputs, length, real, document_ids, measurements, computed)
            stack.enter_context(replayed)
            if self.config.student_input == "visible":
                encoded = self._encode_visible(inputs, student_inputs, mask, positions, measurements)
                content = self._reassemble(encoded[:, measurements.prefix :], positions)
            else:
                encoded = self._encode_masked(inputs, student_inputs, mask, grid, measurements)
                content = encoded[:, measurements.prefix : measurements.prefix + length]
        if isinstance(self.predictor, ConvDecoder):
            rows_real = None if real is None else real.repeat_interleave(num_masks, 0)
            if document_ids is None:
                predictions = self.predictor(self._each_series(content), grid, rows_real, masked)
            else:
                predictions = self._decoded_apart(content, document_ids, positions)
        else:
            predictions = self.predictor(content.flatten(0, 1).index_select(0, masked))
        target_rows = masked // (num_masks * length) * length + masked % length

        every_target = targets.flatten(0, 1)
        loss = regression_loss(predictions, every_target, self.config.loss_beta, self.config.loss_scale, target_rows)
        if self.config.cls_loss_weight:
            # Registers and distillation tokens come after CLS.
            loss = loss + self.config.cls_loss_weight * self._cls_loss(encoded[:, 0], targets, real, mask)
        loss = loss / (len(masked) if num_items_in_batch is None else num_items_in_batch)
        return Data2VecGenericForPreTrainingOutput(
            loss=loss,
            predictions=predictions,
            targets=every_target.index_select(0, target_rows) if return_targets else None,
            num_masked=mask.sum(),
            position_targets=None if return_targets else targets,
        )

    def _positions(
        self,
        mask: Tensor,
        given: MaskPositions | None,
        inputs: dict[str, Any],
        documents: Tensor | None,
        measurements: BackboneMeasurements,
    ) -> MaskPositions:
        """The positions that came with the batch, or those of the mask, for which the host waits for the device."""
        ignore_padding = self.config.ignore_padding
        # Collators take no padding for content.
        known = documents is None or (given is not None and given.most_documents is not None)
        if given is not None and known and (ignore_padding or given.real is None):
            return given.to(mask.device, non_blocking=True)
        attention_mask = inputs.get("attention_mask")
        real = None
        if ignore_padding and attention_mask is not None and not (attention_mask == 1).all():
            real = real_positions(self.encoder, inputs, mask.shape[-1], measurements.stride)
        return MaskPositions.of(mask, real, documents)

    def _decoded_apart(self, content: Tensor, documents: Tensor, positions: MaskPositions) -> Tensor:
        """(N, C): the predictions of a convolutional decoder whose kernels reach no other document.

        The documents are moved apart by half a kernel. The places in between are treated as padding, so that each
        document has the zeros around it that it would have alone.

        Args:
            content: (R, T, C), the decoder's input.
            documents: (B, T).
        """
        assert positions.most_documents is not None
        rows, length, width = content.shape
        places, longer = spread_out(documents, positions.most_documents, self.config.decoder_kernel_size // 2)
        places = places.repeat_interleave(rows // len(places), 0)
        real = documents.repeat_interleave(rows // len(documents), 0) > 0
        spread = content.new_zeros(rows, longer, width).scatter(1, places.unsqueeze(-1).expand_as(content), content)
        occupied = torch.zeros(rows, longer, dtype=torch.bool, device=content.device).scatter(1, places, real)
        begins = torch.arange(rows, device=content.device).unsqueeze(1) * longer
        masked = (places + begins).flatten().index_select(0, positions.masked)
        predictions: Tensor = self.predictor(spread, None, occupied, masked)
        return predictions

    def _each_series(self, hidden: Tensor) -> Tensor:
        """Split the channels of a time series, (R, T, C) -> (R * channels, T / channels, C), if the encoder does."""
        if not self.layout.quirks.channels_apart:
            return hidden
        return hidden.reshape(-1, hidden.shape[1] // self.encoder.config.num_input_channels, hidden.shape[2])

    @torch.no_grad()
    def all_targets(self, mask: Tensor, document_ids: Tensor | None = None, **inputs: Any) -> Tensor:
        """(B, T, C) float32: the targets at all positions, which the teacher makes of the full input.

        Args:
            mask: (B, M, T) or (B, T), of which T is read.
            document_ids, inputs: see `forward`.
        """
        length, measurements = mask.shape[-1], self._measurements_for(inputs)
        real = None
        if self.config.ignore_padding:
            real = real_positions(self.encoder, inputs, length, measurements.stride)
        with self.keeping_apart(inputs, document_ids) as inputs:
            return self._targets(inputs, length, real, document_ids, measurements, nullcontext())

    @torch.no_grad()
    def _targets(
        self,
        inputs: dict[str, Any],
        length: int,
        real: Tensor | None,
        documents: Tensor | None,
        measurements: BackboneMeasurements,
        computed: AbstractContextManager[None],
    ) -> Tensor:
        """(B, T, C) float32: the targets, which the teacher makes of the full input (data2vec, section 3.3).

        Args:
            computed: a context around the teacher's pass; see `SharedContent`.
        """
        prefix = measurements.prefix
        cast = nullcontext() if self.teacher_copy is None else self.teacher_copy.used()
        # `computed` comes last: it replaces the `forward` of modules of which `cast` may have replaced it too.
        with cast, recorded_layers(self.teacher, self.layout, self.config.target_source) as layers, computed:
            self.teacher(**all_inputs(self.layout, inputs, length))
        if layers[0].shape[1] < prefix + length:
            raise ValueError(
                f"mask has {length} positions per sample, but the encoder's blocks see only "
                f"{layers[0].shape[1] - prefix}. It must have one entry per patch, frame or token, without prefix "
                "tokens such as CLS."
            )
        top = layers[-(self.config.average_top_k_layers or len(layers)) :]
        content = [self._each_series(layer[:, prefix : prefix + length]) for layer in top]
        norms = self.config.target_layer_norms, self.config.target_final_norms
        targets = average_targets(content, *norms, real, documents)
        return targets.view(-1, length, targets.shape[-1])

    def _encode_masked(
        self,
        inputs: dict[str, Any],
        student_inputs: dict[str, Any],
        mask: Tensor,
        grid: tuple[int, int] | None,
        measurements: BackboneMeasurements,
    ) -> Tensor:
        """(R, prefix + T, C): the student's output for the whole sequence, with masked content replaced."""
        _, num_masks, length = mask.shape
        inputs = repeated(inputs, num_masks) | student_inputs
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
        positions: MaskPositions,
        measurements: BackboneMeasurements,
    ) -> Tensor:
        """(R, prefix + V, C): the student's output for the visible positions alone."""
        _, num_masks, length = mask.shape
        rows_mask = mask.flatten(0, 1)
        tokens = torch.arange(measurements.prefix, device=mask.device).expand(len(rows_mask), -1)
        index = torch.cat([tokens, positions.read + measurements.prefix], dim=1)
        rows = torch.arange(len(rows_mask), device=mask.device)
        own_content = self.main_input_name in student_inputs
        with ExitStack() as stack:
            if own_content or measurements.mixes_neighbours:
                # Masked content must be removed before a neighbour can see it, so the embeddings run once per mask.
                inputs = repeated(inputs, num_masks) | student_inputs
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
            return encode(self.encoder, self.layout, inputs, length, measurements.takes_last_block)

    def _reassemble(self, encoded: Tensor, positions: MaskPositions) -> Tensor:
        """The decoder's input, (R, V, C) -> (R, T, C): encoded visible positions, noise at masked ones, 0 at
        padding."""
        rows, length, width = len(encoded), positions.shape[-1], encoded.shape[-1]
        dense = encoded.new_zeros(rows, length, width)
        dense = dense.scatter(1, positions.read.unsqueeze(-1).expand_as(encoded), encoded)
        noise = self.mask_noise(encoded, len(positions.masked))
        return dense.flatten(0, 1).index_copy(0, positions.masked, noise).view(rows, length, width)

    def _cls_loss(self, cls: Tensor, targets: Tensor, real: Tensor | None, mask: Tensor) -> Tensor:
        """`cls_loss` between CLS (R, C) and the mean of the targets (B, T, C) over all positions without padding."""
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
            "the weight of their mean, which does not grow with the batch. Give the weight that you want to train "
            "with, e.g. from_pretrained(..., cls_loss_weight=2.56), which data2vec 2.0 (base) uses. To go on as "
            "before, multiply the old weight by the rows of an optimizer step (samples × num_masks). 0 leaves the CLS "
            "loss out. The plain encoder, Data2VecGenericModel, can be loaded without a change."
        )


def _turn_off_own_masking(encoder: PreTrainedModel) -> None:
    """Turn off the encoder's own masking of its input (spec augmentation) and its layer drop.

    Some encoders do both when they train. Here the data collator makes the masks, and every block must run.

    The rate of layer drop has several names. Some encoders read it from their configuration in each forward pass,
    others copy it to the module that runs the blocks. It is set to 0 in all of these places, except for the rate of a
    decoder in the configuration of an encoder-decoder.
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
    """Set all attributes of a module or configuration that hold the encoder's rate of layer drop to 0."""
    for name in vars(owner):
        if _LAYER_DROP.search(name) and "decoder" not in name:
            setattr(owner, name, 0.0)


def _flattened(student_inputs: dict[str, Tensor], inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Flatten the student's inputs, (B, M, ...) -> (R, ...). Those without an axis of masks stay as they are."""
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
