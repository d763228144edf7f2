"""Draws which frames of waveforms are masked, and features of frames as colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import COLOURS, MASKED, WIDTH, runs, save, styled
from ...figures.features import plot_strips
from ...figures.samples import draw_spectrogram


@styled
def plot_speech_masks(
    waveforms: Sequence[np.ndarray], masks: Sequence[np.ndarray], sampling_rate: int, path: Path
) -> None:
    """Saves a picture of waveforms above their spectrograms, with masked frames shaded.

    Args:
        waveforms: (samples,) of each clip, without padding.
        masks: bool (T,) of each clip, True if a frame is masked.
        sampling_rate: in Hz.
        path: the file.
    """
    rows, columns = -(-len(waveforms) // 2), min(len(waveforms), 2)
    figure = Figure(figsize=(WIDTH, 1.8 * rows + 0.2), layout="constrained")
    ratios = (1, 1.6) * rows
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=ratios, hspace=0.02, wspace=0.04)
    for place, (waveform, mask) in enumerate(zip(waveforms, masks, strict=True)):
        row, column = divmod(place, columns)
        seconds = len(waveform) / sampling_rate
        above = figure.add_subplot(grid[2 * row, column])
        above.set_title(f"{mask.sum()} of {mask.size} frames masked", fontsize="medium", fontweight="normal")
        above.plot(np.linspace(0, seconds, len(waveform)), waveform, linewidth=0.4, color=COLOURS[0])
        below = figure.add_subplot(grid[2 * row + 1, column])
        draw_spectrogram(below, waveform, (0, seconds, 0, 1))
        for axes in (above, below):
            axes.set(xlim=(0, seconds), xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            for start, end in runs(mask):
                axes.axvspan(
                    start / mask.size * seconds, end / mask.size * seconds, color=MASKED, alpha=0.4, linewidth=0
                )
        below.set_xlabel(f"{seconds:.2g} seconds", labelpad=2)
    save(figure, path)


def plot_speech_features(
    waveforms: Sequence[np.ndarray], colours: Mapping[str, Sequence[np.ndarray]], path: Path
) -> None:
    """Saves a picture of spectrograms, above the features of frames as strips of colours.

    Args:
        waveforms: as for `plot_speech_masks`.
        colours: what a strip is, and of each clip the colours of its frames (T, 3), from 0 to 1.
        path: the file.
    """
    plot_strips(lambda axes, number: draw_spectrogram(axes, waveforms[number]), 0.9, colours, path)
