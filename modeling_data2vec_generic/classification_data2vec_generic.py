"""Linear heads for encoders whose type has no head in transformers, on the mean of all positions or on each one.

Shapes: B samples, T content positions, L = prefix tokens + T, C channels, H and W the sides of an image in pixels.
"""

from typing import Any

import torch
from torch import Size, Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import (
    SemanticSegmenterOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .backbone_data2vec_generic import as_sequence, first
from .configuration_data2vec_generic import Data2VecGenericConfig
from .float32_copy_data2vec_generic import EncoderTemplate
from .geometry_data2vec_generic import grid_of, patch_sides, real_positions
from .inputs_data2vec_generic import all_inputs
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, find_layout
from .measurements_data2vec_generic import measure
from .modeling_data2vec_generic import Data2VecGenericPreTrainedModel
from .quirks_data2vec_generic import quirks_of

_SEQUENCE_CLASSIFICATION = "classification_data2vec_generic.Data2VecGenericForSequenceClassification"


class _LinearHead(Data2VecGenericPreTrainedModel):
    """Any encoder with a linear layer that has `config.num_labels` outputs."""

    loss_name: str  # names one of transformers' loss functions

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config, encoder)
        self.loss_type = self.loss_name
        outputs: Any = config.num_labels
        self.classifier = nn.Linear(self.num_features(find_layout(self.encoder)), outputs)
        self.post_init()

    def num_features(self, layout: BackboneLayout) -> int:
        """How many features the linear layer reads."""
        return layout.width

    def hidden_states(self, inputs: dict[str, Any]) -> Tensor:
        """The encoder's last hidden state, (B, L, C), or (B, channels, L, C) if it keeps a series' channels apart.

        Raises:
            UnsupportedBackboneError: the encoder returns one vector for each sample.
        """
        quirks = quirks_of(self.encoder.config.model_type)
        hidden = first(self.encoder(**quirks.inputs, **inputs))
        if quirks.channels_apart:
            return hidden
        if hidden.ndim < 3:
            raise UnsupportedBackboneError(
                f"{describe(self.encoder)} puts out {tuple(hidden.shape)}, and (samples, positions, channels) is "
                "expected: a vector for each position. Choose an encoder of another type."
            )
        return as_sequence(hidden, quirks.channels_first)

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.classifier:
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)


class Data2VecGenericForSequenceClassification(_LinearHead):
    """Any encoder with a linear layer on the mean of its last hidden state over all positions that are not padding.

    If the encoder keeps the channels of a series apart, the layer reads the means of all channels. According to
    `config.problem_type`, the targets are classes, several labels or numbers. The Auto classes for sequence, image,
    video and audio classification load it.

    Args:
        config: its `encoder_config` says which encoder, its `num_labels` how many outputs.
        encoder: use this one instead of a new one from the config.

    Raises:
        UnsupportedBackboneError: the width of the encoder can't be determined.
    """

    _auto_class = "AutoModelForSequenceClassification"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModelForSequenceClassification": _SEQUENCE_CLASSIFICATION,
        "AutoModelForImageClassification": _SEQUENCE_CLASSIFICATION,
        "AutoModelForVideoClassification": _SEQUENCE_CLASSIFICATION,
        "AutoModelForAudioClassification": _SEQUENCE_CLASSIFICATION,
    }
    loss_name = "ForSequenceClassification"

    def num_features(self, layout: BackboneLayout) -> int:
        """C, or channels * C if the encoder keeps the channels of a series apart."""
        return layout.width * (self.encoder.config.num_input_channels if layout.quirks.channels_apart else 1)

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> SequenceClassifierOutput:
        """Logits (B, num_labels), and the loss if there are labels.

        Args:
            labels: (B) classes, (B, num_labels) labels that are 0 or 1, or (B) or (B, num_labels) numbers.
            inputs: the encoder's own arguments.
        """
        hidden = self.hidden_states(inputs)
        if hidden.ndim == 4:  # such encoders have no padding
            pooled = hidden.mean(2).flatten(1)
        else:
            real = real_positions(self.encoder, inputs, hidden.shape[1])
            pooled = hidden.mean(1) if real is None else _mean_of(hidden, real)
        logits = self.classifier(pooled)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def _mean_of(hidden: Tensor, real: Tensor) -> Tensor:
    """(B, C): the mean of hidden states (B, L, C) over the positions that are not padding, `real` (B, L)."""
    # A product with the mask would not do, because an encoder's output may be infinite or NaN at padding.
    content = torch.where(real.unsqueeze(-1), hidden, 0.0)
    return content.sum(1) / real.sum(1, keepdim=True).to(hidden.dtype)


class Data2VecGenericForTokenClassification(_LinearHead):
    """Any encoder with a linear layer on each position of its last hidden state.

    Args:
        config: its `encoder_config` says which encoder, its `num_labels` how many classes.
        encoder: use this one instead of a new one from the config.

    Raises:
        UnsupportedBackboneError: the width of the encoder can't be determined.
    """

    _auto_class = "AutoModelForTokenClassification"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModelForTokenClassification": "classification_data2vec_generic.Data2VecGenericForTokenClassification",
    }
    loss_name = "ForTokenClassification"

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> TokenClassifierOutput:
        """Logits (B, L, num_labels), and the loss if there are labels.

        Args:
            labels: (B, L) classes, -100 at positions that have none.
            inputs: the encoder's own arguments.
        """
        logits = self.classifier(self.hidden_states(inputs))
        loss = None if labels is None else self.loss_function(logits, labels, self.config)
        return TokenClassifierOutput(loss=loss, logits=logits)


class Data2VecGenericForSemanticSegmentation(_LinearHead):
    """Any encoder of images with a linear layer on each patch of its last hidden state.

    Args:
        config: its `encoder_config` says which encoder, its `num_labels` how many classes, and its
            `semantic_loss_ignore_index` which label the loss ignores (255 if it is not set).
        encoder: use this one instead of a new one from the config.

    Raises:
        UnsupportedBackboneError: the width of the encoder or, in the forward pass, the place of the patches among its
            outputs can't be determined.
    """

    _auto_class = "AutoModelForSemanticSegmentation"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModelForSemanticSegmentation": "classification_data2vec_generic.Data2VecGenericForSemanticSegmentation",
    }
    loss_name = "ForSemanticSegmentation"
    # (height, width) of the last images, and for this size the layout and the numbers of prefix tokens and patches
    _places: tuple[Size, BackboneLayout, int, int] | None = None

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config, encoder)
        self._template = EncoderTemplate(self.encoder)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **inputs: Any) -> SemanticSegmenterOutput:
        """Logits (B, num_labels, rows, columns) of the patches, and the loss if there are labels.

        Args:
            pixel_values: (B, image channels, H, W).
            labels: (B, height, width) classes. For the loss, the logits are resized to their size (bilinear).
            inputs: other arguments of the encoder.
        """
        size = pixel_values.shape[-2:]
        if self._places is None or self._places[0] != size:
            layout = find_layout(self.encoder)
            encoder_copy = self._template.float32_copy(self.encoder)
            measurements = measure(self.encoder, layout, {"pixel_values": pixel_values}, encoder_copy)
            self._places = size, layout, measurements.prefix, measurements.length
        _, layout, prefix, length = self._places
        hidden = self.hidden_states(all_inputs(layout, {"pixel_values": pixel_values, **inputs}, length))
        patches = hidden[:, prefix : prefix + length]
        grid = grid_of(pixel_values.shape, length, patch_sides(self.encoder.config))
        logits = self.classifier(patches).transpose(1, 2).unflatten(2, grid)
        loss = None
        if labels is not None:
            ignored = getattr(self.config, "semantic_loss_ignore_index", 255)
            loss = self.loss_function(logits, labels, ignore_index=ignored)
        return SemanticSegmenterOutput(loss=loss, logits=logits)


__all__ = [
    "Data2VecGenericForSemanticSegmentation",
    "Data2VecGenericForSequenceClassification",
    "Data2VecGenericForTokenClassification",
]
