"""Nearest neighbours by cosine: some rows, and for each of them the rows whose vectors are most like its own."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUERIES = 24  # rows that a page shows with their neighbours


@dataclass(frozen=True)
class Neighbours:
    """Places count vectors from the first piece on.

    Args:
        queries: the places of the rows that are looked at, (Q,), ascending.
        places: of the neighbours of each, (Q, K), the nearest first.
        cosines: of the angles between their vectors and that of the row, (Q, K).
    """

    queries: NDArray[np.int64]
    places: NDArray[np.int64]
    cosines: NDArray[np.float32]


def chosen_rows(count: int) -> NDArray[np.int64]:
    """The places of at most 24 of `count` vectors, a fixed random choice, ascending."""
    return np.sort(np.random.default_rng(0).choice(count, min(count, _QUERIES), replace=False))


def nearest(
    queries: NDArray[np.int64], vectors: NDArray[np.floating], pieces: Iterable[NDArray[np.floating]], k: int
) -> Neighbours:
    """The `k` nearest neighbours of some rows, without themselves. All pieces but one at a time may be on the disk.

    Args:
        queries: the places of the rows, (Q,).
        vectors: their vectors, (Q, C).
        pieces: the vectors of all rows, a piece at a time, (N_piece, C).
        k: neighbours of each row; fewer if there are not so many rows.
    """
    unit = _unit(vectors)
    places = np.zeros((len(queries), 0), np.int64)
    cosines = np.zeros((len(queries), 0), np.float32)
    first = 0
    for piece in pieces:
        own = np.arange(first, first + len(piece))
        found = unit @ _unit(piece).T
        found[queries[:, None] == own] = -np.inf
        places = np.concatenate([places, np.broadcast_to(own, found.shape)], axis=1)
        cosines = np.concatenate([cosines, found], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        places, cosines = np.take_along_axis(places, best, axis=1), np.take_along_axis(cosines, best, axis=1)
        first += len(piece)
    k = min(k, first - 1)
    return Neighbours(queries, places[:, :k], cosines[:, :k])


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors of length 1; those that hold NaN or infinity, which are like nothing, become 0."""
    values = vectors.astype(np.float32)
    values = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, 0.0)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
