"""Training steps whose cost is compared: the library's two objectives, and what people would use in their place.

All contenders of a case have the same backbone, batch and optimizer. A step is forward, backward, clipping, AdamW and,
for the library, the teacher. Batches are collated beforehand and lie on the device.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaForMaskedLM,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    Wav2Vec2ForPreTraining,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from ...cases import OBJECTIVES, SIZES, Case, tokenizer
from ...device import Device
from ...timing import LibraryLoop, PlainLoop, adamw

MAE, MLM, WAV2VEC = "ViTMAE", "masked language model", "wav2vec 2.0"
PEERS = {"vision": MAE, "text": MLM, "speech": WAV2VEC}

# MAE's decoder beside its base encoder: 8 blocks for 12, 512 wide for 768 (arXiv 2111.06377, section 3).
MAE_DECODER_SHARE = 2 / 3
# As in transformers' run_mae.py, run_mlm.py and run_wav2vec2_pretraining_no_trainer.py.
MAE_MASKED = 0.75
MLM_MASKED = 0.15
WAV2VEC_MASKED, WAV2VEC_SPAN, WAV2VEC_NEGATIVES = 0.65, 10, 100


@dataclass(frozen=True)
class Training:
    """A contender at work.

    Args:
        step: takes one optimizer step.
        forward: computes the loss alone, as the first part of a step.
        samples: samples of a step.
        masks: masks of a step, each of which is a prediction task of its own.
        hidden: the share of the positions that a mask hides.
        weights: parameters, those of a teacher included.
        trained: parameters that have a gradient.
    """

    step: Callable[[], Any]
    forward: Callable[[], Tensor]
    samples: int
    masks: int
    hidden: float
    weights: int
    trained: int


Peer = tuple[PreTrainedModel, dict[str, Any], Tensor]


def contenders(case: Case) -> tuple[str, ...]:
    """The names of those that are compared on a kind of data, the peer last."""
    return (*OBJECTIVES, PEERS[case.modality])


def training(name: str, case: Case, device: Device) -> Training:
    """A contender with new weights on a device, and one batch for it."""
    if name in OBJECTIVES:
        batch = case.batch(name)
        own = case.model(name).to(device.type)
        return _training(LibraryLoop(own, adamw(own), device), batch, case, case.masks_per_step(name), batch["mask"])
    model, batch, mask = peer(name, case)
    model = model.to(device.type)
    return _training(PlainLoop(model, adamw(model), device), batch, case, case.batch_size, mask)


def peer(name: str, case: Case) -> Peer:
    """A peer with new weights in training mode, its batch, and which positions are masked."""
    torch.manual_seed(0)
    model, batch, mask = _PEERS[name](case)
    return model.train(), batch, mask


def _training(loop: PlainLoop, batch: dict[str, Any], case: Case, masks: int, mask: Tensor) -> Training:
    on_device = send_to_device(batch, loop.device.type)
    return Training(
        step=lambda: loop.step(on_device),
        forward=lambda: loop.loss(on_device),
        samples=case.batch_size,
        masks=masks,
        hidden=float(mask.float().mean()),
        weights=sum(parameter.numel() for parameter in loop.model.parameters()),
        trained=sum(parameter.numel() for parameter in loop.trained),
    )


def _mae(case: Case) -> Peer:
    encoder = case.encoder_config()
    heads = max(round(MAE_DECODER_SHARE * encoder.num_attention_heads), 1)
    width = heads * encoder.hidden_size // encoder.num_attention_heads
    config = ViTMAEConfig(
        **_shared(encoder, "image_size", "patch_size", "hidden_dropout_prob", "attention_probs_dropout_prob"),
        decoder_num_hidden_layers=max(round(MAE_DECODER_SHARE * encoder.num_hidden_layers), 1),
        decoder_hidden_size=width,
        decoder_num_attention_heads=heads,
        decoder_intermediate_size=4 * width,
        mask_ratio=MAE_MASKED if case.mask_ratio is None else case.mask_ratio,
        norm_pix_loss=True,
    )
    mask = torch.tensor([config.mask_ratio])  # the model draws its masks itself
    return ViTMAEForPreTraining(config), {"pixel_values": case.batch("data2vec")["pixel_values"]}, mask


def _mlm(case: Case) -> Peer:
    masked = MLM_MASKED if case.mask_ratio is None else case.mask_ratio
    config = case.encoder_config()
    collator = DataCollatorForLanguageModeling(tokenizer(config.vocab_size), mlm_probability=masked)
    columns = ("input_ids", "special_tokens_mask")
    batch = dict(collator([{name: example[name] for name in columns} for example in case.examples()]))
    return RobertaForMaskedLM(config), batch, batch["labels"] != -100


def _wav2vec2(case: Case) -> Peer:
    probability = WAV2VEC_MASKED if case.mask_ratio is None else case.mask_ratio
    config = case.encoder_config()
    config.mask_time_prob = probability  # without it the encoder has no mask embedding
    model = Wav2Vec2ForPreTraining(config)
    np.random.seed(0)  # transformers draws its masks and negatives from numpy's global generator
    inputs = case.batch("data2vec")["input_values"]
    shape = (case.batch_size, int(model._get_feat_extract_output_lengths(inputs.shape[-1])))
    mask = _compute_mask_indices(shape, probability, WAV2VEC_SPAN)
    negatives = _sample_negative_indices(shape, WAV2VEC_NEGATIVES, mask)
    batch = {
        "input_values": inputs,
        "mask_time_indices": torch.from_numpy(mask),
        "sampled_negative_indices": torch.from_numpy(negatives),
    }
    return model, batch, batch["mask_time_indices"]


def _shared(config: PreTrainedConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in (*SIZES["base"], *names)}


_PEERS: dict[str, Callable[[Case], Peer]] = {MAE: _mae, MLM: _mlm, WAV2VEC: _wav2vec2}


def changed(case: Case, **settings: Any) -> Case:
    """The case with other fields of the encoder's config."""
    return replace(case, settings=tuple((dict(case.settings) | settings).items()))


def speech(case: Case) -> Case:
    """A case of speech with wav2vec 2.0's own encoder."""
    return replace(case, model_type="wav2vec2")
