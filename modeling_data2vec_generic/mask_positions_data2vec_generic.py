"""Where a batch is masked, visible and padded, as numbers that the host knows.

On a GPU, to find the masked positions of a mask means to wait for everything that the device still has to do. Data
collators therefore make a `MaskPositions` beside the mask, in the workers of the data loader, and the model reads
shapes instead of values.

Shapes: B samples, M masks per sample, R = B * M rows, T content positions, V visible positions, N masked positions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MaskPositions:
    """The positions of one mask. Make it by `MaskPositions.of`.

    It is one value in a batch, and neither a tensor nor a dict, so that nothing that cuts or joins the tensors of a
    batch takes its indices for samples. A batch that was cut has a mask of another shape than `shape`, and one whose
    mask was changed or replaced by hand is known by `source`. The model then computes the positions anew.

    Attributes:
        shape: (B, M, T) of the mask.
        masked: (N), indices of the masked positions among all R * T, in the order of B, M, T.
        visible: (R, V) content positions that a student reads which encodes visible positions only, in ascending
            order. A row with fewer visible positions than others reads its first padding position several times at the
            end, which has no effect on the others because attention ignores padding. `None` if that is not possible.
        fault: why `visible` is `None`, else "".
        real: (B, T) bool, False at padding; `None` if nothing is padded.
        most_documents: the largest number of documents in a sample; `None` if sequences are not packed.
        source: the mask itself and its version, which every operation in place raises. `None` once the positions have
            been moved or sent to another process, as the mask has been then.
    """

    shape: tuple[int, ...]
    masked: Tensor
    visible: Tensor | None
    fault: str
    real: Tensor | None
    most_documents: int | None = None
    source: tuple[Tensor, int] | None = None

    @classmethod
    def of(cls, mask: Tensor, real: Tensor | None = None, documents: Tensor | None = None) -> Self:
        """The positions of a mask, on its device. On a GPU this waits for the device.

        Args:
            mask: (B, M, T) bool, True at positions to predict.
            real: (B, T) bool, False at padding; `None` if nothing is padded.
            documents: (B, T), the numbers of the documents in each sample, from 1 on; `None` if it is one.
        """
        rows = mask.flatten(0, 1)
        padding = None if real is None else ~real.repeat_interleave(mask.shape[1], 0)
        visible, fault = _visible_positions(~rows if padding is None else ~(rows | padding), padding)
        masked = rows.flatten().nonzero().squeeze(1)
        most = None if documents is None else int(documents.max())
        return cls(tuple(mask.shape), masked, visible, fault, real, most, (mask, mask._version))

    def belong_to(self, mask: Tensor) -> bool:
        """Whether a mask (B, M, T) is theirs, as far as that is known without reading its values."""
        if self.source is not None:
            own, version = self.source
            return own is mask and mask._version == version
        return self.shape == tuple(mask.shape)

    @property
    def read(self) -> Tensor:
        """`visible`.

        Raises:
            ValueError: a row has no visible position, or fewer than others and no padding.
        """
        if self.visible is None:
            raise ValueError(self.fault)
        return self.visible

    def to(self, device: Any, non_blocking: bool = False) -> Self:
        """The same on another device, as `Tensor.to` does it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same in page-locked memory. Data loaders that pin their batches call this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        visible = None if self.visible is None else change(self.visible)
        real = None if self.real is None else change(self.real)
        return replace(self, masked=change(self.masked), visible=visible, real=real, source=None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "source": None}


def _visible_positions(visible: Tensor, padding: Tensor | None) -> tuple[Tensor | None, str]:
    """`visible` and `fault` of `MaskPositions`, from (R, T) bool each."""
    counts = visible.sum(1)
    fillable = counts == counts.max() if padding is None else (counts == counts.max()) | padding.any(1)
    # One synchronisation with the device instead of three.
    width, fewest, every_row_fits = torch.stack((counts.max(), counts.min(), fillable.all())).tolist()
    if fewest == 0:
        return None, (
            "mask leaves no visible position in one of the rows, so the student has nothing to read there. Lower "
            "mask_ratio."
        )
    if not every_row_fits:
        return None, (
            "Some rows of mask leave fewer positions visible than others and have no padding to fill up with. "
            "Mask the same number of positions in every row of the same length."
        )
    index = visible.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
    if padding is not None:
        filled = torch.arange(width, device=visible.device) < counts.unsqueeze(1)
        index = torch.where(filled, index, padding.to(torch.uint8).argmax(1, keepdim=True))
    return index.contiguous(), ""


__all__ = ["MaskPositions"]
