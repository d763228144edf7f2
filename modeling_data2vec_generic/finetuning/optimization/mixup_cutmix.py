"""Mixup and cutmix: training on mixtures of two images and of their labels."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Mix:
    """Mixes the images of a batch with those of the reversed batch, as timm does, which BEiT and MAE use.

    One share is drawn from Beta(alpha, alpha) for the whole batch. Mixup (arXiv 1710.09412) averages the pixels with
    this share. Cutmix (arXiv 1905.04899) pastes a box of the other image that covers 1 - share of the image. If both
    are on, each is used with probability 1/2.

    Args:
        mixup, cutmix: alpha of each; 0 turns it off.
        num_labels: K, number of classes.
    """

    mixup: float
    cutmix: float
    num_labels: int

    def __call__(self, pixels: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            pixels: (B, ..., H, W).
            labels: (B,) int64 or, with several classes per image, (B, K) of 0 and 1.

        Returns:
            Mixed pixels of the same shape, and (B, K) shares of the classes.
        """
        targets = (one_hot(labels, self.num_labels) if labels.ndim == 1 else labels).to(pixels.dtype)
        if not (self.mixup or self.cutmix):
            return pixels, targets
        cuts = bool(self.cutmix) and (not self.mixup or rng.random() < 0.5)
        alpha = self.cutmix if cuts else self.mixup
        share = float(rng.beta(alpha, alpha))
        if cuts:
            height, width = pixels.shape[-2:]
            top, bottom, left, right = box(height, width, share, rng)
            pixels = pixels.clone()
            pixels[..., top:bottom, left:right] = pixels.flip(0)[..., top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (height * width)  # the border may have cut the box
        else:
            pixels = share * pixels + (1 - share) * pixels.flip(0)
        return pixels, share * targets + (1 - share) * targets.flip(0)


def box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A box at a random place whose sides are sqrt(1 - share) of the image's; the border of the image cuts it.

    Returns:
        top, bottom, left and right, in pixels.
    """
    side = (1 - share) ** 0.5
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(y - half_height, 0),
        min(y + half_height, height),
        max(x - half_width, 0),
        min(x + half_width, width),
    )


__all__ = ["Mix", "box"]
