"""What pictures show of an encoder's features: colours of patches, nearest neighbours, and places on a map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ..measurements_data2vec_generic import evaluation_mode
from .probe import ContentMask, content_of

NEIGHBOURS = 4
_LEAST_ON_A_MAP = 10
_BORDER = 2  # percent of the values of a component, on both sides, that all have its lightest or darkest colour
_COMPONENTS = 50  # that t-SNE begins with
_ITERATIONS = 500  # of t-SNE; with so few samples, more change little


@dataclass(frozen=True)
class FeatureView:
    """What is shown of the features of N samples, the first Q of which are looked at more closely.

    Args:
        colours: of each of the Q samples, of all its content: (T, 3), or (channels, T, 3), from 0 to 1.
        neighbours: (Q, K) numbers of the samples that are nearest to each of the Q, nearest first.
        places: (N, 2) on a map; None if there are fewer than ten samples.
    """

    colours: list[np.ndarray]
    neighbours: np.ndarray
    places: np.ndarray | None

    def save(self, path: Path) -> None:
        """Write the view to a safetensors file."""
        arrays = {f"colours_{number}": colours for number, colours in enumerate(self.colours)}
        arrays |= {"neighbours": self.neighbours} | ({} if self.places is None else {"places": self.places})
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path) -> "FeatureView":
        """Read what `save` wrote."""
        arrays = load_file(path)
        colours = [arrays[f"colours_{number}"] for number in range(len(arrays["neighbours"]))]
        return cls(colours, arrays["neighbours"], arrays.get("places"))


def view_of(features: np.ndarray, contents: Sequence[np.ndarray], seed: int) -> FeatureView:
    """The view of features (N, C), which are finite, and of the content features of the first Q, (T, C) each."""
    return FeatureView(colours_of(contents), nearest(features, len(contents)), places_of(features, seed))


@torch.no_grad()
def content_features(encoder: Any, inputs: dict[str, Tensor], content_mask: ContentMask) -> list[np.ndarray]:
    """The features of all content of each sample of a batch: (T, C), or (channels, T, C)."""
    with evaluation_mode(encoder):
        hidden, content = content_of(encoder, inputs, content_mask)
    return [sample[..., own, :].cpu().numpy() for sample, own in zip(hidden, content, strict=True)]


def colours_of(contents: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The first three principal components of features (..., C) as red, green and blue (..., 3), from 0 to 1.

    Components are those of all the features together, so that equal colours mean similar features. A component of
    which all have the same value is a middle grey.
    """
    flat = np.concatenate([content.reshape(-1, content.shape[-1]) for content in contents])
    components = _components(flat, 3)
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = np.percentile(components, (_BORDER, 100 - _BORDER), axis=0)
    scaled = np.where(high > low, (components - low) / np.maximum(high - low, 1e-12), 0.5).clip(0, 1)
    ends = np.cumsum([content[..., 0].size for content in contents])[:-1]
    return [
        part.reshape(*content.shape[:-1], 3).astype(np.float32)
        for part, content in zip(np.split(scaled, ends), contents, strict=True)
    ]


def nearest(features: np.ndarray, queries: int) -> np.ndarray:
    """The numbers of the samples nearest to each of the first ones, by cosine similarity and without itself.

    Returns:
        (queries, NEIGHBOURS), or fewer columns if there are not as many other samples.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(features) - 1)
    fitted = NearestNeighbors(n_neighbors=count + 1, metric="cosine", algorithm="brute").fit(features)
    found = fitted.kneighbors(features[:queries], return_distance=False)
    # The sample itself is not always the first: others may have the very same features.
    others = [[other for other in row if other != query] for query, row in enumerate(found.tolist())]
    return np.array([row[:count] for row in others], dtype=np.int64).reshape(queries, count)


def places_of(features: np.ndarray, seed: int) -> np.ndarray | None:
    """Places (N, 2) of features (N, C) on a map, by t-SNE of their directions; None for fewer than ten."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(features) < _LEAST_ON_A_MAP:
        return None
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    components = _components(directions, _COMPONENTS)
    spread = components.std()
    if spread == 0:  # t-SNE, which would divide by it, ends the process
        return np.zeros((len(features), 2), dtype=np.float32)
    map_of = TSNE(perplexity=min(30.0, (len(features) - 1) / 3), max_iter=_ITERATIONS, init="pca", random_state=seed)
    # Of so few samples, threads would wait for one another, many times as long on a computer that does other work too.
    with threadpool_limits(1):
        return map_of.fit_transform(components / spread)


def _components(features: np.ndarray, most: int) -> np.ndarray:
    """At most so many principal components (N, components) of features (N, C), which may all be the same."""
    from sklearn.decomposition import PCA

    count = min(most, *features.shape)
    if not np.ptp(features, axis=0).any():
        return np.zeros((len(features), count), dtype=np.float32)
    return PCA(count, random_state=0).fit_transform(features)
