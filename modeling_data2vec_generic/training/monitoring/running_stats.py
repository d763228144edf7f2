"""Statistics over many batches and all processes: means of scalars, and spreads of rows."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ...geometry_data2vec_generic import real_positions
from ...modeling_data2vec_generic import Data2VecGenericForPreTraining
from ...objective_data2vec_generic import SPREAD_EPS, spread


class Means:
    """Running means of scalars, without those that are not finite; they stay on their device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        together = torch.stack(list(values.values()))
        finite = together.isfinite()
        counted = torch.stack([together.masked_fill(~finite, 0.0), finite.to(together.dtype)], 1)
        if not values.keys() <= self._sums.keys():
            self._sums = {name: counted.new_zeros(2) for name in values} | self._sums
        torch._foreach_add_([self._sums[name] for name in values], list(counted))

    def pop(self) -> dict[str, float]:
        """The means since the last call over all processes, each of which must call it; NaN where nothing was
        finite."""
        totals: dict[str, Tensor] = {}
        for sums in gather_object([{name: counted.cpu() for name, counted in self._sums.items()}]):
            for name, counted in sums.items():
                totals[name] = totals[name] + counted if name in totals else counted
        self._sums = {}
        return {name: (total / count).item() for name, (total, count) in totals.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """(sum, count) by name, for `load_state_dict`."""
        return {f"sum.{name}": counted for name, counted in self._sums.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._sums = {name.removeprefix("sum."): value for name, value in state.items() if name.startswith("sum.")}


class RunningSpread:
    """The spread (see `spread`) of rows that come in batches, on one or several processes.

    Attributes:
        moments: none or one, (3, C): count, mean and sum of squared deviations of this process's rows.
    """

    def __init__(self) -> None:
        self.moments: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Add rows (N, C); N may be 0."""
        rows = rows.float()
        mean = rows.mean(0) if len(rows) else rows.sum(0)
        moments = torch.stack([torch.full_like(mean, len(rows)), mean, (rows - mean).square().sum(0)])
        self.moments = [merged([*self.moments, moments])]

    def value(self) -> float:
        """The spread of the rows of all processes, each of which must call this; NaN for a single row."""
        return spread_of(merged(gather_object([moments.cpu() for moments in self.moments]))).item()


class PassStatistics:
    """What is noted of each pass of the model, without waiting for the device.

    Attributes:
        means: of training, since the last log: `mask_ratio`, `padding` where there may be any, `target_std`,
            `prediction_std`.
        spreads: `target_std` and `prediction_std` over all masked positions of the evaluation.
        num_predictions: masked positions of the latest training pass.
    """

    def __init__(self) -> None:
        self.means = Means()
        self.num_predictions = 0
        self.begin_evaluation()

    def begin_evaluation(self) -> None:
        """Forget the rows of earlier evaluations."""
        self.spreads = {name: RunningSpread() for name in ("target_std", "prediction_std")}

    @torch.no_grad()
    def add(
        self,
        model: Data2VecGenericForPreTraining,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        training: bool,
    ) -> None:
        """Note one pass.

        Args:
            inputs: what the model read.
            outputs: what it returned; in training, the targets of all positions.
            training: whether it was a pass of training or of evaluation.
        """
        predictions = outputs["predictions"]
        if not training:
            self.spreads["target_std"].add(outputs["targets"])
            self.spreads["prediction_std"].add(predictions)
            return
        self.num_predictions = len(predictions)
        mask, real = inputs["mask"], known_real(model, inputs)
        values = {"mask_ratio": mask_ratio(mask, real)}
        if "attention_mask" in inputs:
            values["padding"] = mask.new_zeros((), dtype=torch.float32) if real is None else 1 - real.float().mean()
        if self.num_predictions > 1:  # one row has no spread
            times_masked = mask.sum(1) if mask.ndim == 3 else mask
            values["target_std"] = spread(outputs["position_targets"].flatten(0, 1), times_masked.flatten())
            values["prediction_std"] = spread(predictions)
        self.means.add(values)

    def evaluation_spreads(self) -> dict[str, float]:
        """The spreads over all processes, each of which must call this."""
        return {name: rows.value() for name, rows in self.spreads.items()}


def known_real(model: Data2VecGenericForPreTraining, inputs: Mapping[str, Any]) -> Tensor | None:
    """Which positions are not padding, (B, T) bool; None if none is."""
    mask, positions, measurements = inputs["mask"], inputs.get("mask_positions"), model.measurements
    assert measurements is not None  # the forward pass has been made
    if positions is not None and positions.belong_to(mask):
        return positions.real
    return real_positions(model.encoder, inputs, mask.shape[-1], measurements.stride)


def mask_ratio(mask: Tensor, real: Tensor | None) -> Tensor:
    """The share of real positions that are masked, a scalar; padding is not counted.

    Args:
        mask: (B, T) or (B, M, T).
        real: (B, T), False at padding; None if nothing is padded.
    """
    return mask.float().mean() if real is None else mask.sum() / (real.sum() * mask[0].numel() / mask.shape[-1])


def spread_of(moments: Tensor) -> Tensor:
    """The spread (see `spread`) of rows with these moments (3, C)."""
    count, _, squares = moments
    return torch.sqrt(squares / (count - 1) + SPREAD_EPS).mean()


def merged(moments: Iterable[Tensor]) -> Tensor:
    """The moments (3, C) of several sets of rows together (Chan, Golub, LeVeque 1983)."""
    return reduce(_both, moments)


def _both(one: Tensor, other: Tensor) -> Tensor:
    (count, mean, squares), (other_count, other_mean, other_squares) = one, other
    difference = other_mean - mean
    share = other_count / (count + other_count).clamp(min=1)  # both may be empty
    return torch.stack(
        [count + other_count, mean + difference * share, squares + other_squares + difference.square() * count * share]
    )
