"""Plain heads for encoders whose type has none in transformers: a linear layer, on the mean over all positions or on
each of them."""

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
from .layout_data2vec_generic import BackboneLayout, UnsupportedBackboneError, describe, find_layout
from .measurements_data2vec_generic import all_inputs, measure
from .modeling_data2vec_generic import Data2VecGenericPreTrainedModel
from .quirks_data2vec_generic import quirks_of

_OWN = "classification_data2vec_generic.Data2VecGenericForSequenceClassification"


class _LinearHead(Data2VecGenericPreTrainedModel):
    """Any encoder, and a linear layer with `config.num_labels` outputs."""

    loss_name: str  # of transformers' loss functions

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config, encoder)
        self.loss_type = self.loss_name
        outputs: Any = config.num_labels
        self.classifier = nn.Linear(self.num_features(find_layout(self.encoder)), outputs)
        self.post_init()

    def num_features(self, layout: BackboneLayout) -> int:
        """What the layer reads."""
        return layout.width

    def hidden_states(self, inputs: dict[str, Any]) -> Tensor:
        """The encoder's last hidden state, (B, T, C), or (B, channels, T, C) where it keeps those of a series apart.

        Raises:
            UnsupportedBackboneError: the encoder has one output for the whole sample.
        """
        quirks = quirks_of(self.encoder.config.model_type)
        hidden = first(self.encoder(**quirks.inputs, **inputs))
        if quirks.channels_apart:
            return hidden
        if hidden.ndim < 3:
            raise UnsupportedBackboneError(
                f"{describe(self.encoder)} puts out {tuple(hidden.shape)}, and (samples, positions, channels) are "
                "expected, a vector for each position. Choose an encoder of another type."
            )
        return as_sequence(hidden, quirks.channels_first)

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.classifier:
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)


class Data2VecGenericForSequenceClassification(_LinearHead):
    """Any encoder, the mean of its last hidden state over every position that is not padding, and a linear layer.

    Where the encoder keeps the channels of a series apart, the layer reads the mean of each of them. For classes,
    several labels or numbers, by `config.problem_type`; loaded by the Auto classes for images, video, text and sound
    alike.

    Args:
        config: its `encoder_config` says which encoder, `num_labels` how many outputs.
        encoder: use this one instead of a new one from the config.

    Raises:
        UnsupportedBackboneError: how wide the encoder is can't be told.
    """

    _auto_class = "AutoModelForSequenceClassification"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModelForSequenceClassification": _OWN,
        "AutoModelForImageClassification": _OWN,
        "AutoModelForVideoClassification": _OWN,
        "AutoModelForAudioClassification": _OWN,
    }
    loss_name = "ForSequenceClassification"

    def num_features(self, layout: BackboneLayout) -> int:
        return layout.width * (self.encoder.config.num_input_channels if layout.quirks.channels_apart else 1)

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> SequenceClassifierOutput:
        """Logits (B, num_labels) of the encoder's own inputs, and the loss where there are labels."""
        hidden = self.hidden_states(inputs)
        if hidden.ndim == 4:  # channels apart, which have no padding
            pooled = hidden.mean(2).flatten(1)
        else:
            real = real_positions(self.encoder, inputs, hidden.shape[1])
            pooled = hidden.mean(1) if real is None else _mean_of(hidden, real)
        logits = self.classifier(pooled)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def _mean_of(hidden: Tensor, real: Tensor) -> Tensor:
    """(B, C): the mean over the positions (B, T) that are real of hidden states (B, T, C)."""
    # where, not a product: what an encoder leaves at padding may be infinite or NaN.
    content = torch.where(real.unsqueeze(-1), hidden, 0.0)
    return content.sum(1) / real.sum(1, keepdim=True).to(hidden.dtype)


class Data2VecGenericForTokenClassification(_LinearHead):
    """Any encoder, and a linear layer on each position of its last hidden state.

    Args:
        config: its `encoder_config` says which encoder, `num_labels` how many classes.
        encoder: use this one instead of a new one from the config.

    Raises:
        UnsupportedBackboneError: how wide the encoder is can't be told.
    """

    _auto_class = "AutoModelForTokenClassification"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModelForTokenClassification": "classification_data2vec_generic.Data2VecGenericForTokenClassification",
    }
    loss_name = "ForTokenClassification"

    def forward(self, labels: Tensor | None = None, **inputs: Any) -> TokenClassifierOutput:
        """Logits (B, T, num_labels) of the encoder's own inputs, and the loss where there are labels (B, T), -100 at
        positions without one."""
        logits = self.classifier(self.hidden_states(inputs))
        loss = None if labels is None else self.loss_function(logits, labels, self.config)
        return TokenClassifierOutput(loss=loss, logits=logits)


class Data2VecGenericForSemanticSegmentation(_LinearHead):
    """Any encoder of images, and a linear layer on each patch of its last hidden state.

    Args:
        config: its `encoder_config` says which encoder, `num_labels` how many classes, `semantic_loss_ignore_index`
            which label has no part in the loss (default 255).
        encoder: use this one instead of a new one from the config.

    Raises:
        UnsupportedBackboneError: how wide the encoder is, or which of its outputs are patches, can't be told.
    """

    _auto_class = "AutoModelForSemanticSegmentation"
    _auto_map = {
        "AutoConfig": "configuration_data2vec_generic.Data2VecGenericConfig",
        "AutoModelForSemanticSegmentation": "classification_data2vec_generic.Data2VecGenericForSemanticSegmentation",
    }
    loss_name = "ForSemanticSegmentation"
    _places: tuple[Size, BackboneLayout, int, int] | None = (
        None  # of one size of image: tokens before the patches, and patches
    )

    def __init__(self, config: Data2VecGenericConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config, encoder)
        self._template = EncoderTemplate(self.encoder)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **inputs: Any) -> SemanticSegmenterOutput:
        """Logits (B, num_labels, rows, columns) of the patches, and the loss where there are labels (B, H, W), for
        which logits are resized to their size (bilinear)."""
        size = pixel_values.shape[-2:]
        if self._places is None or self._places[0] != size:
            layout = find_layout(self.encoder)
            found = measure(self.encoder, layout, {"pixel_values": pixel_values}, self._template)
            self._places = size, layout, found.prefix, found.length
        _, layout, before, length = self._places
        hidden = self.hidden_states(all_inputs(layout, {"pixel_values": pixel_values, **inputs}, length))
        patches = hidden[:, before : before + length]  # without CLS, registers and the like
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
