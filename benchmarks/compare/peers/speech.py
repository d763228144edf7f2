"""wav2vec 2.0 by transformers' own class, with the masks, negatives and temperature of its pre-training example.

As in `run_wav2vec2_pretraining_no_trainer.py`, spans are drawn by `_compute_mask_indices` and negatives by
`_sample_negative_indices` among the masked frames of the same clip, the loss is divided by the masked frames of the
batch, and the temperature of the Gumbel softmax decays with each step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    FeatureExtractionMixin,
    PreTrainedModel,
    TrainerCallback,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from modeling_data2vec_generic.modalities.speech.collator import pad_waveforms
from modeling_data2vec_generic.modalities.speech.long_clips import LongClip

from ..training import Trained, plain_encoder, train_peer

HOTTEST, COLDEST, DECAY, PUBLISHED_STEPS = 2.0, 0.5, 0.999995, 200_000  # of the example and its README


class Wav2Vec2PerFrame(Wav2Vec2ForPreTraining):
    """Divides the loss, which is a sum over masked frames, by their number."""

    def forward(self, *args: Any, mask_time_indices: torch.Tensor, **kwargs: Any) -> Any:
        outputs = super().forward(*args, mask_time_indices=mask_time_indices, **kwargs)
        outputs.loss = outputs.loss / mask_time_indices.sum()
        return outputs


class GumbelTemperature(TrainerCallback):
    """Lets the temperature fall as far as over the published number of steps, whatever the length of the run."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        steps = PUBLISHED_STEPS * state.global_step / state.max_steps
        model.set_gumbel_temperature(max(HOTTEST * DECAY**steps, COLDEST))


def train_wav2vec2(
    encoder: Wav2Vec2Model,
    sounds: Dataset,
    extractor: FeatureExtractionMixin,
    folder: Path,
    mask_time_prob: float,
    mask_time_length: int,
    head: Mapping[str, Any],
    **arguments: Any,
) -> Trained:
    """Pre-trains an encoder by wav2vec 2.0's contrastive loss.

    Args:
        encoder: new; its weights are copied.
        sounds: prepared samples with a column `audio` (see `modalities/speech/collator.py`); parts of long ones are
            random.
        extractor: the feature extractor.
        folder: see `train_peer`.
        mask_time_prob: share of the frames that spans would mask if none overlapped.
        mask_time_length: frames in a span.
        head: fields of `Wav2Vec2Config` that say how the quantizer and the loss are made.
        arguments: of `TrainingArguments`.
    """
    model = Wav2Vec2PerFrame(Wav2Vec2Config(**encoder.config.to_dict() | head))
    model.wav2vec2.load_state_dict(encoder.state_dict())

    def collate(examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch = pad_waveforms(extractor, [_part(example["audio"]) for example in examples])
        length = int(model._get_feat_extract_output_lengths(batch["input_values"].shape[1]))
        frames = model._get_feature_vector_attention_mask(length, batch["attention_mask"])
        shape = (len(examples), length)
        masks = _compute_mask_indices(shape, mask_time_prob, mask_time_length, attention_mask=frames)
        negatives = _sample_negative_indices(shape, model.config.num_negatives, mask_time_indices=masks)
        return {
            **batch,
            "mask_time_indices": torch.from_numpy(masks).long(),
            "sampled_negative_indices": torch.from_numpy(negatives).long(),
        }

    def plain(trained: Wav2Vec2ForPreTraining) -> PreTrainedModel:
        return plain_encoder(Wav2Vec2Model(encoder.config), trained.wav2vec2.state_dict())

    return train_peer(
        model,
        sounds,
        collate,
        plain,
        extractor,
        folder,
        callbacks=[GumbelTemperature()],
        **arguments,
    )


def _part(sound: np.ndarray | LongClip) -> np.ndarray:
    """A waveform, or a random part of a long one. The random state is numpy's own, which checkpoints hold."""
    return sound.crop(np.random.random(4)) if isinstance(sound, LongClip) else sound
