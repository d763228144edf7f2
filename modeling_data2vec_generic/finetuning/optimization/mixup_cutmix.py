"""Mixup and cutmix: two images and their labels in one."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Mix:
    """Mixes each image of a batch with the one at the same place from the end, as timm and with it BEiT and MAE do.

    One share serves the whole batch, drawn from Beta(alpha, alpha). mixup (arXiv 1710.09412) averages pixels by it;
    cutmix (arXiv 1905.04899) pastes a box of the partner that covers 1 - share of the image. If both are on, either
    is as likely.

    Args:
        mixup, cutmix: alpha of each, 0 for off.
    """

    mixup: float
    cutmix: float
    num_labels: int

    def __call__(self, pixels: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pixels (B, C, H, W) and classes, (B,) int64 or, of several per image, (B, num_labels) of 0 and 1, to mixed
        pixels and their shares of classes (B, num_labels)."""
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
            share = 1 - (bottom - top) * (right - left) / (height * width)  # the box may have been cut at the border
        else:
            pixels = share * pixels + (1 - share) * pixels.flip(0)
        return pixels, share * targets + (1 - share) * targets.flip(0)


def box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """top, bottom, left, right of a box with its centre anywhere, whose sides are sqrt(1 - share) of the image's, cut
    at the border."""
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
