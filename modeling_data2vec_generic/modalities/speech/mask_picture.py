"""Draws which frames of a waveform are masked."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...figures.drawing import MASKED, runs, save


def plot_speech_mask(waveform: np.ndarray, mask: np.ndarray, sampling_rate: int, path: Path) -> None:
    """Saves a picture of a waveform (samples,) without padding, with its masked frames, bool (T,), shaded."""
    seconds = len(waveform) / sampling_rate
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="amplitude", xlim=(0, seconds))
    axes.set_title(f"{mask.sum()} of {mask.size} frames masked", fontsize=9)
    axes.plot(np.arange(len(waveform)) / sampling_rate, waveform, linewidth=0.5)
    for start, end in runs(mask):
        axes.axvspan(start / mask.size * seconds, end / mask.size * seconds, color=MASKED, alpha=0.3, linewidth=0)
    save(figure, path)
