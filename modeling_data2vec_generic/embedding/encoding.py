"""From a batch of the encoder's inputs to vectors: which hidden states, which positions, and how they are pooled.

Shapes: B samples, T positions, C channels.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from ..backbone_data2vec_generic import as_sequence, recorded_layers
from ..evaluation.probe import Collate, content_mean
from ..inputs_data2vec_generic import all_inputs
from ..layout_data2vec_generic import find_layout
from ..measurements_data2vec_generic import differ, evaluation_mode, measuring
from ..modalities import Modality
from ..quirks_data2vec_generic import quirks_of
from .arguments import EmbeddingArguments


class Encoding:
    """Computes vectors with an encoder on its device.

    Args:
        encoder: the encoder.
        modality: of its inputs, fitted to it.
        args: which hidden states are taken, and how they are pooled.

    Raises:
        ValueError: there is no first token to take, or the blocks that are asked for cannot be found.
    """

    def __init__(self, encoder: PreTrainedModel, modality: Modality, args: EmbeddingArguments) -> None:
        self.encoder, self.args = encoder, args
        self.quirks = quirks_of(encoder.config.model_type)
        self.channels = getattr(modality, "channels", 1) if self.quirks.channels_apart else None
        self.positions = math.prod(getattr(modality, "grid", ()))
        self.content_mask = modality.content_mask()
        layers = args.layer is not None or args.top_k_layers is not None
        self.layout = find_layout(encoder) if layers or self.quirks.ordered_input is not None else None
        if args.pooling == "cls":
            self._require_first_token(modality)

    def _require_first_token(self, modality: Modality) -> None:
        if modality.reads == "input_ids":
            has_one = modality.processor.cls_token is not None
        else:
            has_one = getattr(modality, "num_prefix_tokens", 0) > 0
        if not has_one:
            raise ValueError(
                f"pooling='cls' takes the first token, and this {self.encoder.config.model_type} encoder has none in "
                "front of the content. Choose --pooling mean."
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Evaluation mode, without gradients, in the precision that was chosen. Vectors are computed inside of it."""
        dtype = getattr(torch, self.args.dtype)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(evaluation_mode(self.encoder))
            if dtype != torch.float32:
                stack.enter_context(torch.autocast(self.encoder.device.type, dtype))
            yield

    def __call__(self, inputs: Mapping[str, Any]) -> Tensor | list[Tensor]:
        """The vectors of a batch, float32: (B, C), or with pooling "tokens" for each sample (length, C).

        Channels that the encoder keeps apart are concatenated.

        Args:
            inputs: as they leave the loader.
        """
        device = self.encoder.device
        hidden = self._hidden(send_to_device(inputs, device, non_blocking=True)).float()
        content = self.content_mask(inputs, hidden.shape[-2]).to(device)
        if self.args.pooling == "mean":
            return self._scaled(content_mean(hidden, content))
        if hidden.ndim == 4:  # (B, channels, T, C)
            hidden = hidden.transpose(1, 2).flatten(2)
        if self.args.pooling == "cls":
            # Padding may be on the left of a text; images, clips and series have none.
            real = inputs.get("attention_mask")
            first = torch.zeros(len(hidden), dtype=torch.long) if real is None else real.argmax(dim=1)
            return self._scaled(hidden[torch.arange(len(hidden), device=device), first.to(device)])
        return [self._scaled(states[where]) for states, where in zip(hidden, content, strict=True)]

    def _scaled(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=-1) if self.args.normalize == "l2" else vectors

    def _hidden(self, inputs: Mapping[str, Any]) -> Tensor:
        """(B, T, C), or (B, channels, T, C) if channels are kept apart."""
        if self.layout is None:
            given = {**self.quirks.inputs, **inputs}
        else:
            given = all_inputs(self.layout, inputs, self.positions)
        if self.args.layer is None and self.args.top_k_layers is None:
            hidden = self.encoder(**given).last_hidden_state
            return hidden if self.channels else as_sequence(hidden, self.quirks.channels_first)
        assert self.layout is not None
        with recorded_layers(self.encoder, self.layout, "block") as layers:
            self.encoder(**given)
        hidden = self._chosen(layers)
        return hidden if self.channels is None else hidden.unflatten(1, (self.channels, -1))

    def _chosen(self, layers: Sequence[Tensor]) -> Tensor:
        wanted = self.args.layer if self.args.layer is not None else self.args.top_k_layers
        if wanted is None or not 1 <= abs(wanted) <= len(layers):
            name = "layer" if self.args.layer is not None else "top_k_layers"
            raise ValueError(f"{name}={wanted} is beyond the {len(layers)} blocks of this encoder.")
        if self.args.layer is not None:
            return layers[wanted - 1 if wanted > 0 else wanted]
        chosen = layers[-wanted:]
        if len(shapes := {tuple(layer.shape[1:]) for layer in chosen}) > 1:
            raise ValueError(
                f"top_k_layers={wanted} takes blocks whose outputs have different shapes ({sorted(shapes)}), which "
                "have no mean: choose fewer, or one with --layer."
            )
        return torch.stack([layer.float() for layer in chosen]).mean(dim=0)


def padding_changes_vectors(
    encode: Encoding, collate: Collate, shorter: Mapping[str, Any], longer: Mapping[str, Any]
) -> bool:
    """Whether the hidden states of a sample change, by more than rounding, when it is padded to a longer one.

    They do where an encoder normalises over all positions of a sequence, padding too, or has convolutions that reach
    into the padding.
    """
    with measuring(encode.encoder):
        alone, padded = (encode(collate(samples)) for samples in ([dict(shorter)], [dict(shorter), dict(longer)]))
    one, other = alone[0], padded[0]
    return differ(one, other)
