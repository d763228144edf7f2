"""An untrained wav2vec 2.0 encoder of 4 blocks of width 192 whose first convolution is a bank of band-pass filters.

The output of random filters does not show the shape of the spectrum to a linear map, so that an encoder must learn its
filters first. Here, filters for 40 bands are given, evenly spaced on the mel scale from 100 to 7,600 Hz. Each band has
four filters that differ by a quarter of a period, in windows of 25 ms every 10 ms, so that the sum of their outputs
after the GELU follows the energy of the band. All other weights are random, and all weights are trained. A frame is
40 ms.

The folder that is written can be given to --model_name_or_path.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model, set_seed

logger = logging.getLogger(__name__)

RATE = 16_000
BANDS = 40
PHASES = 4
WINDOW, STEP = 400, 160  # samples: 25 and 10 ms
LOWEST, HIGHEST = 100.0, 7_600.0  # Hz


def mel_spaced(lowest: float, highest: float, count: int) -> np.ndarray:
    """(count,) frequencies in Hz with the same distance in mel from one to the next (O'Shaughnessy's formula)."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([lowest, highest]) / 700)), count)
    return 700 * (10 ** (mel / 2595) - 1)


def filterbank() -> torch.Tensor:
    """(BANDS * PHASES, 1, WINDOW) filters of norm 1; the filters of a band are next to each other."""
    time = (np.arange(WINDOW) - (WINDOW - 1) / 2) / RATE
    turns = mel_spaced(LOWEST, HIGHEST, BANDS)[:, None, None] * time + (np.arange(PHASES) / PHASES)[:, None]
    filters = np.cos(2 * np.pi * turns) * np.hanning(WINDOW)
    filters /= np.linalg.norm(filters, axis=-1, keepdims=True)
    return torch.tensor(filters, dtype=torch.float32).reshape(BANDS * PHASES, 1, WINDOW)


def new_encoder(seed: int, **changes: Any) -> Wav2Vec2Model:
    """The encoder, whose random weights depend on `seed`; `changes` are other fields of its configuration."""
    set_seed(seed)
    fields = {
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "conv_dim": (BANDS * PHASES, BANDS * PHASES),
        "conv_kernel": (WINDOW, 4),
        "conv_stride": (STEP, 4),
        "num_conv_pos_embeddings": 9,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "do_stable_layer_norm": True,
    }
    encoder = Wav2Vec2Model(Wav2Vec2Config(**fields | changes))
    with torch.no_grad():
        encoder.feature_extractor.conv_layers[0].conv.weight.copy_(filterbank())
    return encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/filterbank_encoder"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    encoder = new_encoder(args.seed)
    encoder.save_pretrained(args.output_dir)
    logger.info(f"{encoder.num_parameters():,} weights in {args.output_dir}")


if __name__ == "__main__":
    main()
