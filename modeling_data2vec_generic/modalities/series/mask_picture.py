"""Draws which patches of a series are masked."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import MASKED, runs, save


def plot_series_mask(values: np.ndarray, mask: np.ndarray, path: Path, most: int = 8) -> None:
    """Saves a picture of the channels of a series, one below the other, with masked patches shaded.

    Args:
        values: (T, channels).
        mask: bool (channels, patches), or (1, patches) if all channels have the same mask. Patches are drawn side by
            side, even if those of the encoder overlap.
        path: the file.
        most: the number of channels that are shown at most.
    """
    length, channels = values.shape
    shown = min(most, channels)
    figure = Figure(figsize=(9, 1 + 1.5 * shown), layout="constrained")
    figure.suptitle(f"{mask.sum()} of {mask.size} patches masked", fontsize=9)
    for channel in range(shown):
        axes = figure.add_subplot(shown, 1, channel + 1, ylabel=f"channel {channel}", xlim=(0, length))
        axes.plot(np.arange(length) + 0.5, values[:, channel], linewidth=0.8)
        for start, end in runs(mask[channel % len(mask)]):
            first, last = (edge / mask.shape[1] * length for edge in (start, end))
            axes.axvspan(first, last, color=MASKED, alpha=0.3, linewidth=0)
    figure.axes[-1].set_xlabel("values")
    save(figure, path)
