"""Draws which patches of series are masked, and features of patches as colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...figures.drawing import COLOURS, MASKED, WIDTH, runs, save, styled
from ...figures.features import plot_strips

_CHANNELS = 4  # that are drawn at most
_BAND = 0.45  # inches, the height of one above masks
_LOW_BAND = 0.25  # the same above features


@styled
def plot_series_masks(series: np.ndarray, masks: np.ndarray, path: Path) -> None:
    """Saves a picture of series, their channels one below the other, with masked patches shaded.

    Args:
        series: (series, T, channels).
        masks: bool (series, channels, patches), or (series, 1, patches) if all channels have the same mask. Patches
            are drawn side by side, even if those of the encoder overlap.
        path: the file.
    """
    shown = min(_CHANNELS, series.shape[2])
    rows, columns = -(-len(series) // 2), min(len(series), 2)
    figure = Figure(figsize=(WIDTH, rows * (0.3 + _BAND * max(shown, 2)) + 0.1), layout="constrained")
    for place, (values, mask) in enumerate(zip(series, masks, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_title(f"{mask.mean():.0%} masked", fontsize="medium", fontweight="normal")
        _draw_channels(axes, values[:, :shown])
        for channel in range(shown):
            for start, end in runs(mask[channel % len(mask)]):
                first, last = (edge / mask.shape[1] * len(values) for edge in (start, end))
                bottom = shown - 1 - channel
                axes.fill_between([first, last], bottom, bottom + 1, color=MASKED, alpha=0.4, linewidth=0)
    save(figure, path)


def plot_series_features(series: np.ndarray, colours: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Saves a picture of series, above the features of their patches as strips of colours.

    Args:
        series: as for `plot_series_masks`.
        colours: what a strip is, and of each series the colours of its patches, (patches, 3), or (channels, patches,
            3) if the encoder keeps channels apart, from 0 to 1.
        path: the file.
    """
    shown = min(_CHANNELS, series.shape[2])
    strips = {
        name: [patches if patches.ndim == 2 else patches[:shown] for patches in column]
        for name, column in colours.items()
    }
    plot_strips(
        lambda axes, number: _draw_channels(axes, series[number][:, :shown]), _LOW_BAND * max(shown, 2), strips, path
    )


def _draw_channels(axes: Axes, values: np.ndarray) -> None:
    """Draw values (T, channels) one below the other, each in a band of height 1."""
    length, channels = values.shape
    lowest, highest = values.min(0), values.max(0)
    scaled = 0.08 + 0.84 * (values - lowest) / np.maximum(highest - lowest, 1e-12)
    for channel in range(channels):
        axes.plot(
            np.arange(length) + 0.5, scaled[:, channel] + channels - 1 - channel, color=COLOURS[0], linewidth=0.8
        )
    axes.set(xlim=(0, length), ylim=(0, channels), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
