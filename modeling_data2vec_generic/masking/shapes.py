"""The masks of data2vec and data2vec 2.0 as pure functions.

True means masked: the student has to predict this position. Each function draws `rows` independent masks at once, bool
(rows, T), from `rng`, a numpy generator or `RowGenerators`. The positions of a grid are counted row by row.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .sample_rng import UniformSource

BoolArray = NDArray[np.bool_]


def to_exact_count(mask: BoolArray, count: int, order: NDArray[np.float64]) -> BoolArray:
    """Masks or unmasks random single positions of `mask` (rows, T) until each row has `count` masked ones.

    `order`, (rows, T) uniform in [0, 1), decides which positions these are.
    """
    if not 0 < count < mask.shape[1]:
        return np.full(mask.shape, count > 0)
    # Masked positions sort before the others, and in random order among themselves. The first `count` positions are
    # therefore either a random choice of the masked ones, or all of these and a random choice of the others.
    chosen = np.argpartition(order + ~mask, count, axis=1)[:, :count]
    exact = np.zeros_like(mask)
    np.put_along_axis(exact, chosen, True, axis=1)
    return exact


def random_mask(rows: int, size: int, ratio: float, rng: UniformSource) -> BoolArray:
    """Single random positions (MAE, data2vec 2.0 for text): int(size * (1 - ratio)) stay visible."""
    nothing = np.zeros((rows, size), dtype=bool)
    return to_exact_count(nothing, size - int(size * (1 - ratio)), rng.random((rows, size)))


def span_mask(
    rows: int, size: int, ratio: float, length: int, rng: UniformSource, *, num_starts: int | None = None
) -> BoolArray:
    """The union of int(ratio * size / length + U[0, 1)) spans with distinct starts (wav2vec 2.0, data2vec audio).

    Spans overlap, so that fewer than `ratio` of the positions are masked.

    Args:
        num_starts: spans start at one of the first `num_starts` positions. The default, size - length + 1, allows
            every span that fits. The published audio code uses size - length, so that its last frame is never masked.
            The published text code uses `size`, and cuts spans at the end.
    """
    num_starts = size - length + 1 if num_starts is None else num_starts
    num_spans = (ratio * size / length + rng.random((rows, 1))).astype(np.int64)
    # In a short row the number of spans may be 0. It gets one span, or nothing could be learned from it.
    num_spans = np.clip(num_spans, 1, num_starts)
    most = int(num_spans.max())
    starts = np.argsort(rng.random((rows, num_starts)), axis=1)[:, :most]
    # With +1 where a span starts and -1 after its end, the running sum counts the spans over each position.
    steps = np.zeros((rows, size + length), dtype=np.int32)
    counted = (np.arange(most) < num_spans).astype(np.int32)
    row = np.arange(rows)[:, None]
    steps[row, starts] += counted
    steps[row, starts + length] -= counted
    return np.cumsum(steps, axis=1)[:, :size] > 0


def exact_span_mask(rows: int, size: int, count: int, length: int, rng: UniformSource) -> BoolArray:
    """Spans, added in random order until exactly `count` positions are masked. The last span is cut."""
    num_starts = size - length + 1
    turn = np.argsort(np.argsort(rng.random((rows, num_starts)), axis=1), axis=1)
    # A position is first covered at the smallest turn among the spans that reach it.
    padded = np.pad(turn, ((0, 0), (length - 1, length - 1)), constant_values=num_starts)
    covered_at = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1).min(axis=2)
    first = np.argpartition(covered_at * size + np.arange(size), count, axis=1)[:, :count]
    mask = np.zeros((rows, size), dtype=bool)
    np.put_along_axis(mask, first, True, axis=1)
    return mask


def block_mask(
    rows: int,
    grid: tuple[int, ...],
    ratio: float,
    length: int,
    rng: UniformSource,
    *,
    adjust: float = 0.0,
    inverse: bool = False,
) -> BoolArray:
    """Random blocks of `length` positions (squares on a 2-d grid), brought to an exact count (data2vec 2.0).

    Let p be `ratio`, or 1 - `ratio` if `inverse`. First int(T * (p + adjust) / length ** dims) centres are drawn with
    replacement. The blocks around them, cut at the border, may overlap, for which `adjust` makes up. Then single
    random positions are added or removed until int(T * p) are chosen. The chosen positions are masked, or stay visible
    if `inverse`.
    """
    size = math.prod(grid)
    chosen_ratio = 1 - ratio if inverse else ratio
    # At least one centre. Otherwise, where a block is larger than the count, there would be single positions only.
    num_centres = max(1, int(size * ((chosen_ratio + adjust) / length ** len(grid))))
    offsets = np.arange(length) - length // 2
    centres = (rng.random((rows, num_centres)) * size).astype(np.int64)
    flat = np.zeros((rows, num_centres, 1), dtype=np.int64)
    for extent, coordinate in zip(grid, np.unravel_index(centres, grid), strict=True):
        reached = np.clip(coordinate[..., None] + offsets, 0, extent - 1)
        flat = (flat[..., None] * extent + reached[:, :, None, :]).reshape(rows, num_centres, -1)
    chosen = np.zeros((rows, size), dtype=bool)
    chosen[np.arange(rows)[:, None], flat.reshape(rows, -1)] = True
    chosen = to_exact_count(chosen, int(size * chosen_ratio), rng.random((rows, size)))
    return ~chosen if inverse else chosen


def beit_block_mask(
    rows: int, grid: tuple[int, int], count: int, rng: UniformSource, *, min_area: int = 16, exact: bool = False
) -> BoolArray:
    """Rectangles, added until `count` patches are masked (BEiT, data2vec for images).

    A rectangle's area is uniform in [min_area, number of missing patches], and its aspect ratio is log-uniform in
    [0.3, 1 / 0.3]. It is accepted if it fits into the grid and adds at least one patch and at most the missing number.
    If 10 rectangles in a row are refused, the mask is finished, as in the published code, and has fewer than `count`
    patches. With `exact` it is then filled up with random single patches.
    """
    tries = 10
    height, width = grid
    size = height * width
    # Drawn first, since the number of rounds depends on all rows, and a row must not depend on the others.
    order = rng.random((rows, size))
    log_aspect = math.log(1 / 0.3)
    # A grid is one Python integer with a bit per patch. Multiplying one row of a rectangle by `copies[h]` repeats the
    # row h times.
    copies = [sum(1 << (width * row) for row in range(h)) for h in range(height + 1)]
    bits = [0] * rows
    open_rows = list(range(rows))
    while open_rows:
        numbers = rng.random((rows, tries * 4))
        still_open = []
        for row in open_rows:
            mask, draws = bits[row], numbers[row].tolist()
            missing = count - mask.bit_count()
            for i in range(0, tries * 4, 4):
                area = min_area + (missing - min_area) * draws[i]
                aspect = math.exp(log_aspect * (2 * draws[i + 1] - 1))
                h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if h >= height or w >= width:
                    continue
                top, left = int(draws[i + 2] * (height - h + 1)), int(draws[i + 3] * (width - w + 1))
                rectangle = (((1 << w) - 1) * copies[h]) << (top * width + left)
                if 0 < (rectangle & ~mask).bit_count() <= missing:
                    bits[row] = mask | rectangle
                    if bits[row].bit_count() < count:
                        still_open.append(row)
                    break
        open_rows = still_open
    packed = np.frombuffer(b"".join(mask.to_bytes((size + 7) // 8, "little") for mask in bits), dtype=np.uint8)
    masks = np.unpackbits(packed.reshape(rows, -1), axis=1, count=size, bitorder="little").astype(bool)
    return to_exact_count(masks, count, order) if exact else masks


def bert_replace(
    tokens: NDArray[np.int64],
    mask: BoolArray,
    mask_token_id: int,
    vocabulary: NDArray[np.int64],
    rng: UniformSource,
) -> NDArray[np.int64]:
    """The tokens that the student reads, int64 (rows, T), with masked tokens replaced as in BERT.

    80% of the masked tokens become the mask token, 10% become a random token, and 10% stay as they are.

    Args:
        tokens, mask: (rows, T).
        vocabulary: (V,), the ids that random tokens are chosen from.
    """
    # The k-th number of a row is for its k-th masked token, so that padding on either side changes nothing.
    fate = np.take_along_axis(rng.random(mask.shape), np.maximum(np.cumsum(mask, axis=1) - 1, 0), axis=1)
    # For tokens that become random, the number is uniform in [0.8, 0.9). Its place in there chooses the token.
    is_random = mask & (fate >= 0.8) & (fate < 0.9)
    picked = vocabulary[
        ((fate[is_random] - 0.8) / 0.1 * len(vocabulary)).astype(np.int64).clip(0, len(vocabulary) - 1)
    ]
    replaced = np.where(mask & (fate < 0.8), mask_token_id, tokens)
    replaced[is_random] = picked
    return replaced
