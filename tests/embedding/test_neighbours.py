"""Nearest neighbours, and the page that shows them."""

import re

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from modeling_data2vec_generic.embedding.neighbours import chosen_rows, nearest
from modeling_data2vec_generic.runs.embedding import embed


@pytest.mark.fast
@pytest.mark.parametrize("sizes", [[200], [64, 64, 72], [1, 199]])
def test_nearest__are_those_of_scikit_learn(sizes):
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    queries = chosen_rows(200)
    found = nearest(queries, vectors[queries], np.split(vectors, np.cumsum(sizes)[:-1]), 5)
    distances, places = NearestNeighbors(n_neighbors=6, metric="cosine").fit(vectors).kneighbors(vectors[queries])
    np.testing.assert_array_equal(found.places, places[:, 1:])
    np.testing.assert_allclose(found.cosines, 1 - distances[:, 1:], atol=1e-5)


def test_nearest__are_fewer_where_there_are_fewer_rows():
    vectors = np.eye(3, dtype=np.float32)
    assert nearest(np.arange(3), vectors, [vectors], 5).places.shape == (3, 2)


def test_nearest__of_broken_vectors_come_last():
    vectors = np.array([[1, 0], [np.nan, 0], [1, 0.1]], dtype=np.float32)
    assert nearest(np.array([0]), vectors[:1], [vectors], 2).places.tolist() == [[2, 1]]


@pytest.mark.parametrize("streaming", [False, True])
def test_page__shows_texts_and_escapes_them(bert, tmp_path, streaming):
    texts = ["a <b> & c seed", "rain", *(f"light {number}" for number in range(30))]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    embed(bert, tmp_path / "a.txt", output=tmp_path / "a.npy", neighbours=3, rows_per_piece=9, streaming=streaming)
    page = (tmp_path / "a.neighbours.html").read_text()
    shown = re.findall(r"<div>(.*?)</div><figcaption>.*?<span>row (\d+)</span>", page)
    assert page.count('<figure class="query">') == 24
    assert len(shown) == 24 * 4
    for text, row in shown:
        assert text == texts[int(row)].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_page__of_images_is_one_light_file(vit, images, tmp_path):
    embed(vit, images, output=tmp_path / "a.npy", neighbours=2, rows_per_piece=7)
    page = (tmp_path / "a.neighbours.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 18 * 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "of the neighbours here have the label of their row" in page
    assert len(page) < 200_000


@pytest.mark.parametrize("kind", ["sound", "series", "video"])
def test_page__draws_other_kinds(kind, request, tmp_path):
    if kind == "sound":
        model, data = request.getfixturevalue("speech_encoder")("wav2vec2"), request.getfixturevalue("sounds")
    else:
        names = {"series": ("patchtst", "series"), "video": ("videomae", "clips")}[kind]
        model, data = map(request.getfixturevalue, names)
    modality = "video" if kind == "video" else None
    embed(model, data, output=tmp_path / "a.npy", neighbours=1, modality=modality)
    page = (tmp_path / "a.neighbours.html").read_text()
    queries = page.count('<figure class="query">')
    assert page.count("<img" if kind == "video" else "<svg") == 2 * queries
    assert "nan" not in page
