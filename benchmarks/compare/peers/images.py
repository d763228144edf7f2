"""Masked autoencoders (MAE) and SimMIM, with the models of transformers and the recipes of its scripts.

Those are `run_mae.py` and `run_mim.py` in transformers' examples/pytorch/image-pretraining. Crops and pixels are made
by the same code as data2vec's.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    ViTConfig,
    ViTForMaskedImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop

from ..training import Trained, plain_encoder, train_peer

Collate = Callable[[Sequence[Mapping[str, Any]]], dict[str, torch.Tensor]]


def train_mae(
    config: ViTConfig, decoder: Mapping[str, Any], mask_ratio: float, with_positions: bool, **training: Any
) -> Trained:
    """A ViTMAEForPreTraining: the encoder reads the visible patches, a small transformer predicts normalised pixels.

    Args:
        config: of the plain encoder.
        decoder: fields of `ViTMAEConfig` that begin with "decoder_".
        mask_ratio: share of the patches that are masked.
        with_positions: whether the new model is given the positions that its class leaves out; see `new_mae`.
        training: further arguments of `train_pixels`.
    """
    mae_config = ViTMAEConfig(**_sizes(config), **decoder, mask_ratio=mask_ratio, norm_pix_loss=True)
    model = new_mae(mae_config) if with_positions else ViTMAEForPreTraining(mae_config)

    def plain(trained: ViTMAEForPreTraining) -> PreTrainedModel:
        return plain_encoder(ViTModel(config), trained.vit.state_dict(), ["pooler."])

    return train_pixels(model, plain, **training)


def new_mae(config: ViTMAEConfig) -> ViTMAEForPreTraining:
    """A new model with the fixed positions, the tokens and the patch embedding that its class describes.

    transformers 5.23 leaves all of them but the patch embedding at 0, the positions of encoder and decoder among them:
    what its `initialize_weights` sets, `_init_weights` skips or sets back. Without positions nothing would be learned.
    """
    model = ViTMAEForPreTraining(config)
    embeddings = model.vit.embeddings
    embeddings.patch_embeddings.projection._is_hf_initialized = False  # by which `initialize_weights` would do nothing
    embeddings.initialize_weights()
    model.decoder.initialize_weights(embeddings.patch_embeddings.num_patches)
    return model


def train_simmim(config: ViTConfig, mask_ratio: float, mask_patch_size: int, **training: Any) -> Trained:
    """A ViTForMaskedImageModeling: the encoder reads mask tokens too, one linear layer predicts the pixels.

    Args:
        config: of the plain encoder.
        mask_ratio: share of the cells that are masked.
        mask_patch_size: side of a cell in pixels, a multiple of the encoder's patches.
        training: further arguments of `train_pixels`.
    """
    model = ViTForMaskedImageModeling(ViTConfig(**_sizes(config), encoder_stride=config.patch_size))
    patches = config.image_size // config.patch_size

    def masks(count: int) -> dict[str, torch.Tensor]:
        return {"bool_masked_pos": cell_masks(count, patches, mask_patch_size // config.patch_size, mask_ratio)}

    def plain(trained: ViTForMaskedImageModeling) -> PreTrainedModel:
        return plain_encoder(ViTModel(config), trained.vit.state_dict(), ["pooler.", "embeddings.mask_token"])

    return train_pixels(model, plain, more=masks, **training)


def cell_masks(count: int, side: int, cell: int, ratio: float) -> torch.Tensor:
    """SimMIM's masks, bool (count, side * side): of the cells of cell x cell patches, a share (rounded up) is."""
    cells = (side // cell) ** 2
    ranks = np.random.random((count, cells)).argsort(axis=1).argsort(axis=1)
    masked = (ranks < np.ceil(ratio * cells)).reshape(count, side // cell, side // cell)
    return torch.from_numpy(masked.repeat(cell, axis=1).repeat(cell, axis=2).reshape(count, -1))


def _sizes(config: ViTConfig) -> dict[str, Any]:
    names = "image_size patch_size num_channels hidden_size num_hidden_layers num_attention_heads intermediate_size"
    return {name: getattr(config, name) for name in names.split()}


def train_pixels(
    model: PreTrainedModel,
    plain: Callable[[Any], PreTrainedModel],
    images: Dataset,
    processor: Any,
    crop: RandomResizedCrop,
    folder: Path,
    more: Callable[[int], dict[str, torch.Tensor]] = lambda count: {},
    **arguments: Any,
) -> Trained:
    """Trains on random crops.

    Args:
        model, plain: see `train_peer`.
        images: a column `image`.
        processor: of images.
        crop: what is cut out of each.
        folder: see `train_peer`.
        more: from the number of samples in a batch to what the batch has besides `pixel_values`.
        arguments: of `TrainingArguments`.
    """
    pixels = PixelPipeline(processor)

    def collate(examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        # numpy's own generator, whose state is part of a checkpoint
        found = pixels.cropped([example["image"] for example in examples], crop, np.random)
        return {"pixel_values": found, **more(len(examples))}

    return train_peer(model, images, collate, plain, processor, folder, **arguments)
