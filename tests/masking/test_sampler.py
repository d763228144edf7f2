import numpy as np
import pytest
from scipy import ndimage

from modeling_data2vec_generic.masking.sample_rng import RowGenerators
from modeling_data2vec_generic.masking.sampler import MaskSampler, draw_grid_masks, draw_sequence_masks
from modeling_data2vec_generic.masking.shapes import (
    beit_block_mask,
    bert_replace,
    block_mask,
    exact_span_mask,
    span_mask,
)

pytestmark = pytest.mark.fast

SAMPLERS = {
    "random": MaskSampler("random", 0.5),
    "span": MaskSampler("span", 0.5, length=3),
    "exact span": MaskSampler("span", 0.5, length=3, exact=True),
    "block": MaskSampler("block", 0.5, length=3, adjust=0.05),
    "inverse block": MaskSampler("inverse_block", 0.6, length=3),
}
GRID_SAMPLERS = {
    "random": MaskSampler("random", 0.6),
    "rectangles": MaskSampler("block", 0.6),
    "block": MaskSampler("block", 0.6, length=3),
    "inverse block": MaskSampler("inverse_block", 0.8, length=3, adjust=0.07),
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- counts ---


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (4, 4), (3, 21), (21, 3), (16, 5)])
@pytest.mark.parametrize("name", GRID_SAMPLERS)
def test_grid_masks__have_the_same_exact_count(name, grid, rng):
    sampler, size = GRID_SAMPLERS[name], grid[0] * grid[1]
    masks = sampler(grid, 50, rng)
    assert masks.shape == (50, size)
    assert set(masks.sum(axis=1)) == {sampler.count(size)}
    assert len(np.unique(masks, axis=0)) > 25


@pytest.mark.parametrize("size", [7, 20, 199])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "span"])
def test_sequence_masks__have_the_same_exact_count(name, size, rng):
    masks = SAMPLERS[name]((size,), 50, rng)
    assert set(masks.sum(axis=1)) == {SAMPLERS[name].count(size)}


@pytest.mark.parametrize(
    ("sampler", "size", "count"),
    [
        (MaskSampler("random", 0.75), 196, 147),
        (MaskSampler("random", 0.48), 512, 246),  # as published, int(512 * .52) = 266 stay visible
        (MaskSampler("random", 0.15), 3, 1),
        (MaskSampler("inverse_block", 0.8, length=3), 196, 157),
        (MaskSampler("block", 0.6, length=3), 196, 117),
        (MaskSampler("block", 0.6125), 196, 120),
        (MaskSampler("span", 0.65, length=10, exact=True), 499, 324),
    ],
)
def test_count__is_the_published_one(sampler, size, count):
    assert sampler.count(size) == count


# --- shapes ---


def test_span_mask__every_run_is_a_span_or_overlapping_spans(rng):
    for mask in span_mask(200, 50, 0.4, 5, rng):
        labels, number = ndimage.label(mask)
        assert number >= 1
        assert np.bincount(labels)[1:].min() >= 5


def test_span_mask__short_rows_get_one_whole_span(rng):
    masks = span_mask(300, 6, 0.1, 5, rng)
    assert set(masks.sum(axis=1)) == {5}
    assert set(masks[:, 0]) == {True, False}


def test_exact_span_mask__at_most_one_run_is_shorter_than_a_span(rng):
    runs = []
    for mask in exact_span_mask(300, 100, 42, 5, rng):
        lengths = np.bincount(ndimage.label(mask)[0])[1:]
        assert (lengths < 5).sum() <= 1
        runs.extend(lengths)
    assert np.mean(runs) > 6


def test_span_sampler__never_hides_everything(rng):
    masks = MaskSampler("span", 0.99, length=4)((5,), 2000, rng)
    assert masks.any(axis=1).all()
    assert not masks.all(axis=1).any()
    assert masks.sum(axis=1).max() == 4


@pytest.mark.parametrize("grid", [(3, 20), (20, 3), (9, 13)])
def test_block_mask__one_block_is_a_square_cut_at_the_border_of_a_non_square_grid(grid, rng):
    rows, columns = grid
    # The count is that of one whole block, so blocks inside the grid are not changed.
    masks = block_mask(2000, grid, 9.5 / (rows * columns), 3, rng).reshape(-1, rows, columns)
    whole = 0
    for mask in masks:
        high, wide = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        whole += np.ptp(high) == 2 and np.ptp(wide) == 2
    inside = (rows - 2) * (columns - 2) / (rows * columns)
    assert abs(whole / 2000 - inside) < 5 * np.sqrt(inside * (1 - inside) / 2000) + 0.01


@pytest.mark.parametrize("grid", [(5, 16), (16, 5)])
def test_inverse_block_mask__shows_blocks_all_over_a_non_square_grid(grid, rng):
    masks = block_mask(4000, grid, 0.8, 3, rng, inverse=True).reshape(-1, *grid)
    assert set((~masks).sum(axis=(1, 2))) == {int(80 * (1 - 0.8))}
    visible = (~masks).mean(axis=0)
    # Code for square grids would leave some columns or rows of 5 x 16 always visible. Mirror images are equally
    # likely.
    assert visible.min() > 0.05
    np.testing.assert_allclose(visible[1:-1, 1:-1], visible[1:-1, 1:-1][::-1, ::-1], atol=0.05)


def test_block_mask__transposed_grids_have_transposed_statistics(rng):
    wide = block_mask(5000, (5, 16), 0.3, 3, rng).reshape(-1, 5, 16).mean(axis=0)
    tall = block_mask(5000, (16, 5), 0.3, 3, rng).reshape(-1, 16, 5).mean(axis=0)
    np.testing.assert_allclose(wide, tall.T, atol=5 * np.sqrt(2 * 0.25 / 5000))


@pytest.mark.parametrize("grid", [(6, 20), (20, 6)])
@pytest.mark.parametrize(("down", "right"), [(0.0, 0.0), (0.0, 0.999), (0.999, 0.0), (0.999, 0.999), (0.5, 0.5)])
def test_beit_block_mask__rectangle_stands_where_drawn_on_a_non_square_grid(grid, down, right):
    class Fixed:
        """A generator of rectangles with area 16 and aspect ratio 1, at the relative places `down` and `right`."""

        def random(self, size):
            return np.resize([0.0, 0.5, down, right], size)

    mask = beit_block_mask(2, grid, 16, Fixed(), exact=False).reshape(2, *grid)
    top, left = int(down * (grid[0] - 3)), int(right * (grid[1] - 3))
    expected = np.zeros(grid, dtype=bool)
    expected[top : top + 4, left : left + 4] = True
    np.testing.assert_array_equal(mask, [expected, expected])


def test_beit_block_mask__covers_both_ends_of_a_non_square_grid(rng):
    covered = beit_block_mask(3000, (6, 20), 60, rng).reshape(-1, 6, 20).mean(axis=0)
    corners = covered[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.05
    assert np.ptp(corners) < 5 * np.sqrt(2 * 0.25 / 3000)


def test_beit_block_mask__exact_only_adds_what_the_published_one_lacks():
    published = beit_block_mask(500, (14, 14), 120, np.random.default_rng(4))
    exact = beit_block_mask(500, (14, 14), 120, np.random.default_rng(4), exact=True)
    assert published.sum(axis=1).min() < 120
    assert set(exact.sum(axis=1)) == {120}
    assert (exact | ~published).all()


# --- tokens ---


def test_bert_replace__80_10_10_of_the_masked_tokens_and_no_others(rng):
    tokens = np.full((400, 100), 7)
    mask = rng.random(tokens.shape) < 0.5
    replaced = bert_replace(tokens, mask, 4, np.arange(100, 200), rng)
    assert (replaced[~mask] == 7).all()
    fates = replaced[mask]
    bound = 5 * np.sqrt(0.25 / len(fates))
    assert abs((fates == 4).mean() - 0.8) < bound
    assert abs((fates == 7).mean() - 0.1) < bound
    drawn = fates[(fates != 4) & (fates != 7)]
    assert set(drawn) == set(range(100, 200))


# --- the same sample, the same mask ---


@pytest.mark.parametrize("name", GRID_SAMPLERS)
def test_grid_masks__do_not_depend_on_the_batch(name):
    sampler = GRID_SAMPLERS[name]
    together = draw_grid_masks(sampler, (7, 9), 3, seed=5, epoch=2, sample_indices=list(range(40)))
    for sample in (0, 17, 39):
        alone = draw_grid_masks(sampler, (7, 9), 3, seed=5, epoch=2, sample_indices=[sample])
        np.testing.assert_array_equal(alone[0], together[sample])
    fewer = draw_grid_masks(sampler, (7, 9), 1, seed=5, epoch=2, sample_indices=list(range(40)))
    np.testing.assert_array_equal(fewer[:, 0], together[:, 0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_sequence_masks__depend_on_seed_epoch_and_sample_only(name):
    lengths = np.array([30, 12, 30, 21, 9, 12])
    allowed = np.arange(32) < lengths[:, None]
    indices = [11, 3, 8, 70, 2, 5]

    def draw(rows, width=32, **changes):
        settings = {"seed": 0, "epoch": 1, **changes}
        padded = np.zeros((len(rows), width), dtype=bool)
        padded[:, :32] = allowed[rows]
        return draw_sequence_masks(
            SAMPLERS[name], padded, 4, sample_indices=[indices[row] for row in rows], **settings
        )

    together = draw([0, 1, 2, 3, 4, 5])
    shuffled = draw([4, 2, 0], width=50)
    np.testing.assert_array_equal(shuffled[:, :, :32], together[[4, 2, 0]])
    assert not shuffled[:, :, 32:].any()
    for change in ({"seed": 1}, {"epoch": 2}):
        assert (draw([0, 1, 2, 3, 4, 5], **change) != together).any(axis=2).mean() > 0.7
    assert (together[0] != together[2]).any()
    assert (together[0, 0] != together[0, 1]).any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_sequence_masks__stay_within_the_allowed_positions(name):
    # Special tokens at both ends and one in the middle, then padding.
    allowed = np.zeros((60, 40), dtype=bool)
    for row, length in enumerate(np.random.default_rng(0).integers(12, 40, 60)):
        allowed[row, 1 : length - 1] = True
        allowed[row, length // 2] = False
    masks = draw_sequence_masks(SAMPLERS[name], allowed, 3, 0, 0, range(60))
    assert not (masks & ~allowed[:, None]).any()
    counts = masks.sum(axis=2)
    assert (counts > 0).all()
    assert (counts < allowed.sum(axis=1)[:, None]).all()
    if name != "span":
        np.testing.assert_array_equal(counts, [[SAMPLERS[name].count(n)] * 3 for n in allowed.sum(axis=1)])


def test_row_streams__numbers_are_uniform_and_continue():
    streams = RowGenerators.for_samples(0, 0, range(1000), purpose=1)
    numbers = np.concatenate([streams.random((1000, 30)), streams.random((1000, 70))], axis=1)
    np.testing.assert_array_equal(numbers, RowGenerators.for_samples(0, 0, range(1000), purpose=1).random((1000, 100)))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 5 * np.sqrt(2 * 99)
    # Neither neighbours in a row nor neighbouring rows are correlated.
    centred = numbers - 0.5
    for product in (centred[:, 1:] * centred[:, :-1], centred[1:] * centred[:-1]):
        assert abs(product.mean()) < 5 / 12 / np.sqrt(product.size)


@pytest.mark.parametrize("changed", ["seed", "epoch", "sample_indices", "purpose"])
def test_row_streams__every_part_of_the_key_counts(changed):
    key = {"seed": 3, "epoch": 4, "sample_indices": [5], "purpose": 1}
    other = {**key, changed: [6] if changed == "sample_indices" else 7}
    assert (RowGenerators.for_samples(**key).random((1, 4)) != RowGenerators.for_samples(**other).random((1, 4))).all()


# --- errors ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "stripes", "ratio": 0.5}, "mask_strategy='stripes'.*random, span, block, inverse_block"),
        ({"strategy": "random", "ratio": 0.0}, "mask_ratio=0.0 would mask nothing"),
        ({"strategy": "random", "ratio": 1.0}, "mask_ratio=1.0 would mask nothing or everything"),
        ({"strategy": "span", "ratio": 0.5}, "'span' needs mask_length"),
        ({"strategy": "inverse_block", "ratio": 0.5}, "'inverse_block' needs mask_length"),
        ({"strategy": "span", "ratio": 0.5, "length": 0}, "mask_length=0"),
        ({"strategy": "block", "ratio": 0.5, "length": 3, "adjust": -0.1}, "mask_adjust=-0.1"),
    ],
)
def test_sampler__settings_that_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        MaskSampler(**settings)


@pytest.mark.parametrize(
    ("sampler", "grid", "message"),
    [
        (MaskSampler("random", 0.95), (2, 2), "mask_ratio=0.95.*4 positions.*4 would be masked"),
        (MaskSampler("block", 0.2, length=3), (4,), "mask_ratio=0.2, mask_length=3.*4 positions.*0 would be masked"),
        (MaskSampler("span", 0.5, length=10), (10,), "a span of 10 leaves nothing visible.*fewer than 11 positions"),
        (MaskSampler("span", 0.01, length=2, exact=True), (50,), "0 would be masked"),
        (MaskSampler("block", 0.5), (50,), "mask_length"),
    ],
)
def test_check__a_mask_of_nothing_or_everything(sampler, grid, message):
    with pytest.raises(ValueError, match=message):
        sampler.check(grid)


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), MaskSampler("random", 0.97), MaskSampler("span", 0.3, 10)])
def test_min_positions__is_the_shortest_that_can_be_masked(sampler, rng):
    shortest = sampler.min_positions
    for size in range(shortest, shortest + 5):
        masks = sampler((size,), 20, rng)
        assert (masks.any(axis=1) & ~masks.all(axis=1)).all()
    with pytest.raises(ValueError, match=f"fewer than {shortest} positions"):
        sampler.check((shortest - 1,))


def test_sequence_masks__too_short_a_sample_is_named():
    allowed = np.arange(20) < np.array([[20], [4]])
    with pytest.raises(ValueError, match="sample_index=31 has 4 positions.*mask_length=5"):
        draw_sequence_masks(MaskSampler("span", 0.5, length=5), allowed, 1, 0, 0, [30, 31])
