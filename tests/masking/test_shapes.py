"""Masks have the published distributions. 250 batches of 8 masks are compared with each row of mask_stats.jsonl."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from modeling_data2vec_generic.masking.sample_rng import RowGenerators
from modeling_data2vec_generic.masking.sampler import MaskSampler, draw_grid_masks
from modeling_data2vec_generic.masking.shapes import (
    beit_block_mask,
    block_mask,
    random_mask,
    span_mask,
    to_exact_count,
)

pytestmark = pytest.mark.fast

BATCHES, BATCH = 250, 8
REFERENCE = [
    json.loads(line) for line in (Path(__file__).parents[1] / "fixtures" / "mask_stats.jsonl").read_text().splitlines()
]


def published_audio_spans(rows, size, rng, ratio, length):
    """As in the code of the audio papers: no span reaches the last frame, and all rows of a batch have the smallest
    count."""
    masks = span_mask(rows, size, ratio, length, rng, num_starts=size - length).reshape(BATCHES, BATCH, size)
    smallest = masks.sum(axis=2).min(axis=1)
    trimming = np.random.default_rng(0)
    return np.concatenate(
        [to_exact_count(batch, n, trimming.random(batch.shape)) for batch, n in zip(masks, smallest, strict=True)]
    )


def spans_cut_at_end(rows, size, rng, ratio, length):
    return span_mask(rows, size, ratio, length, rng, num_starts=size)


def random_positions(rows, size, rng, ratio):
    return random_mask(rows, size, ratio, rng)


def blocks(rows, size, rng, dims, **settings):
    grid = (size,) if dims == 1 else (int(size**0.5),) * 2
    return block_mask(rows, grid, rng=rng, **settings)


def rectangles(rows, size, rng):
    return beit_block_mask(rows, (14, 14), 120, rng)


GENERATORS = {
    "v1_audio compute_mask_indices p=.65 len=10 same": partial(published_audio_spans, ratio=0.65, length=10),
    "v1_audio p=.49 len=10 (HF/w2v2 usual)": partial(published_audio_spans, ratio=0.49, length=10),
    "v2_audio on-the-fly compute_mask_indices p=.5 len=5 (adjust ignored)": partial(
        published_audio_spans, ratio=0.5, length=5
    ),
    "v1_text mask_tokens p=.35 len=4 (per sample)": partial(spans_cut_at_end, ratio=0.35, length=4),
    "v2_audio_base block1d p=.5 adj=.05 len=5": partial(blocks, dims=1, ratio=0.5, length=5, adjust=0.05),
    "v2_image_base block2d p=.8 adj=.07 len=3 inverse": partial(
        blocks, dims=2, ratio=0.8, length=3, adjust=0.07, inverse=True
    ),
    "block2d p=.6 len=3 non-inverse": partial(blocks, dims=2, ratio=0.6, length=3),
    "v2_text_base random_masking p=.48": partial(random_positions, ratio=0.48),
    "MAE-style random_masking p=.75": partial(random_positions, ratio=0.75),
    "v1_vision make_mask n=120 min16 max196 (paper/seed)": rectangles,
}


def runs(masks, value):
    """For each mask, about the runs of `value`: their total length, their number, and how many have length 1."""
    padded = np.pad(masks == value, ((0, 0), (1, 1)))
    row, place = np.nonzero(padded[:, 1:] != padded[:, :-1])
    lengths = place[1::2] - place[::2]
    number = np.bincount(row[::2], minlength=len(masks))
    single = np.bincount(row[::2][lengths == 1], minlength=len(masks))
    return (masks == value).sum(axis=1), number, single


def components(masks):
    """For each mask of a square grid, about its 4-connected components: number, mean size and largest size."""
    side = int(masks.shape[1] ** 0.5)
    found = []
    for mask in masks.reshape(-1, side, side):
        labels, number = ndimage.label(mask)
        sizes = np.bincount(labels.ravel())[1:]
        found.append((number, sizes.mean(), sizes.max()))
    return np.array(found).T


def per_mask_statistics(masks, with_components):
    """By name, a numerator and a denominator for each mask. The statistic is the ratio of their sums."""
    rows, size = masks.shape
    one = np.ones(rows)
    statistics = {
        "mean": (masks.mean(axis=1), one),
        "edge_rate": (masks[:, 0], one),
        "last_rate": (masks[:, -1], one),
        "centre_rate": (masks[:, size // 2], one),
    }
    total, number, single = runs(masks, True)
    statistics["mean_run_masked"] = (total, number)
    statistics["frac_single_runs_masked"] = (single, number)
    total, number, _ = runs(masks, False)
    statistics["mean_run_kept"] = (total, number)
    if with_components:
        statistics["corner_rate"] = (masks[:, 0], one)
        statistics["centre2d_rate"] = (masks[:, 7 * 14 + 7], one)
        for name, value in (("masked", masks), ("kept", ~masks)):
            for field, values in zip(("n", "mean_size", "largest"), components(value), strict=True):
                statistics[f"comp_{name}_{field}"] = (values, one)
    return statistics


def ratio_and_error(numerator, denominator):
    """The ratio of the sums and its standard error. Batches are independent, but masks of one batch may not be."""
    numerator = numerator.reshape(BATCHES, BATCH).sum(axis=1)
    denominator = denominator.reshape(BATCHES, BATCH).sum(axis=1)
    ratio = numerator.sum() / denominator.sum()
    residual = numerator - ratio * denominator
    return ratio, np.sqrt(BATCHES / (BATCHES - 1) * (residual**2).sum()) / denominator.sum()


@pytest.mark.parametrize("source", ["numpy", "row_streams"])
@pytest.mark.parametrize("reference", REFERENCE, ids=[f"{row['fn']} T={row['T']}" for row in REFERENCE])
def test_statistics__match_the_published_generators(reference, source):
    rows, size = BATCHES * BATCH, reference["T"]
    rng = np.random.default_rng(1) if source == "numpy" else RowGenerators.for_samples(3, 0, range(rows), purpose=1)
    masks = GENERATORS[reference["fn"]](rows, size, rng)
    assert masks.shape == (rows, size)
    assert masks.dtype == np.bool_

    counts = masks.sum(axis=1)
    if reference["min_count"] == reference["max_count"]:
        assert set(counts) == {reference["min_count"]}
    if reference["same_count_in_batch"]:
        assert (np.ptp(counts.reshape(BATCHES, BATCH), axis=1) == 0).all()

    statistics = per_mask_statistics(masks, with_components="comp_masked_n" in reference)
    described = {"fn", "T", "note", "same_count_in_batch", "min", "max", "min_count", "max_count", "std"}
    assert set(statistics) == set(reference) - described
    measured = {name: ratio_and_error(*parts) for name, parts in statistics.items()}
    squares = (masks.mean(axis=1) - measured["mean"][0]) ** 2
    variance, error = ratio_and_error(squares, np.ones(rows))
    measured["std"] = (variance**0.5, error / (2 * variance**0.5) if variance else 0.0)

    rounding = 5.1e-5
    wrong = {
        name: f"{ours:.4f} against {reference[name]}, allowed {5 * np.sqrt(2) * error + rounding:.4f}"
        for name, (ours, error) in measured.items()
        if abs(ours - reference[name]) > 5 * np.sqrt(2) * error + rounding
    }
    assert not wrong


def test_published_spans__never_mask_the_last_frame__ours_do():
    published = span_mask(2000, 60, 0.5, 5, np.random.default_rng(0), num_starts=55)
    assert published[:, -1].sum() == 0
    masks = span_mask(2000, 60, 0.5, 5, np.random.default_rng(0))
    assert abs(masks[:, -1].mean() - masks[:, 0].mean()) < 5 * np.sqrt(2 * 0.1 * 0.9 / 2000)
    assert masks[:, -1].mean() > 0.05


def test_streams__masks_of_neighbouring_samples_and_epochs_are_independent():
    """Hashes of similar keys could be correlated. Two masks must agree only as often as by chance."""
    sampler = MaskSampler("random", 0.5)
    now = draw_grid_masks(sampler, (14, 14), 2, seed=0, epoch=0, sample_indices=range(500))
    others = {
        "next epoch": draw_grid_masks(sampler, (14, 14), 2, seed=0, epoch=1, sample_indices=range(500)),
        "next seed": draw_grid_masks(sampler, (14, 14), 2, seed=1, epoch=0, sample_indices=range(500)),
        "next sample": np.roll(now, 1, axis=0),
        "other mask of the sample": now[:, ::-1],
    }
    for name, other in others.items():
        agreement = (now == other).mean()
        assert abs(agreement - 0.5) < 5 * 0.5 / np.sqrt(now.size / 2), name
