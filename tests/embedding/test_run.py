"""Whole runs: pieces, runs that were stopped, several processes, streams, formats, and rows without a vector."""

import json

import numpy as np
import pandas
import pytest
from datasets import Dataset
from safetensors.numpy import load_file

from modeling_data2vec_generic.embedding.pieces import Workspace
from modeling_data2vec_generic.runs.embedding import embed, main

from ..tiny import image_folder, sound_folder, text_file


class Stopped(Exception):
    pass


@pytest.fixture
def stopped_after(monkeypatch):
    """A context in which a run stops after it has written some pieces."""

    def stop(pieces):
        whole = Workspace.write

        def write(self, *args):
            nonlocal pieces
            if not pieces:
                raise Stopped
            pieces -= 1
            whole(self, *args)

        monkeypatch.setattr(Workspace, "write", write)

    return stop


@pytest.mark.parametrize(("suffix", "pooling"), [("npy", "mean"), ("npy", "tokens"), ("safetensors", "mean")])
def test_formats__hold_what_the_table_holds(bert, texts, tmp_path, suffix, pooling):
    kept = embed(bert, texts, output=tmp_path / f"a.{suffix}", pooling=pooling, rows_per_piece=16)
    expected = embed(bert, texts, output=tmp_path / "a.parquet", pooling=pooling, rows_per_piece=16)
    np.testing.assert_array_equal(np.concatenate(kept.vectors), np.concatenate(expected.vectors))
    assert kept.ids.tolist() == expected.ids.tolist()
    assert kept.labels.tolist() == expected.labels.tolist()
    assert not list(tmp_path.glob("*.pieces"))


@pytest.mark.fast
def test_parquet__has_a_row_for_each_row(vit, images, tmp_path):
    main([str(vit), str(images), "--output", str(tmp_path / "a.parquet")])
    table = pandas.read_parquet(tmp_path / "a.parquet")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.parquet").stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it
    assert list(table) == ["row", "part", "path", "label", "vector"]
    assert len(table) == 18
    assert (table["label"] == [path.split("/")[-2] for path in table["path"]]).all()


def test_safetensors__has_numbers_of_rows_and_whole_labels(bert, tmp_path):
    pandas.DataFrame({"text": ["seed and rain", "sun and light"], "label": [7, 5]}).to_csv(tmp_path / "a.csv")
    embed(bert, tmp_path / "a.csv", output=tmp_path / "a.safetensors", pooling="tokens")
    tensors = load_file(tmp_path / "a.safetensors")
    vectors, lengths = tensors.pop("vectors"), tensors.pop("length")
    assert {name: values.tolist() for name, values in tensors.items()} == {
        "row": [0, 1],
        "part": [0, 0],
        "label": [7, 5],
    }
    assert len(lengths) == 2
    assert vectors.shape == (lengths.sum(), 16)


@pytest.mark.parametrize("streaming", [False, True])
def test_stopped_run__goes_on_and_gives_the_same_bytes(bert, texts, tmp_path, stopped_after, monkeypatch, streaming):
    settings = {"rows_per_piece": 10, "batch_size": 4, "streaming": streaming}
    stopped_after(2)
    with pytest.raises(Stopped):
        embed(bert, texts, output=tmp_path / "a.parquet", **settings)
    monkeypatch.undo()
    pieces = sorted((tmp_path / "a.parquet.pieces").glob("*.arrow"))
    assert len(pieces) == 2
    written = [path.stat().st_mtime_ns for path in pieces]
    with pytest.raises(ValueError, match="batch_size was 4 and is 5"):
        embed(bert, texts, output=tmp_path / "a.parquet", **settings | {"batch_size": 5})
    stopped_after(1)
    with pytest.raises(Stopped):
        embed(bert, texts, output=tmp_path / "a.parquet", **settings)
    monkeypatch.undo()
    assert [path.stat().st_mtime_ns for path in pieces] == written  # not made again
    embed(bert, texts, output=tmp_path / "a.parquet", **settings)
    embed(bert, texts, output=tmp_path / "b.parquet", **settings)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(ValueError, match="exists: name another file"):
        embed(bert, texts, output=tmp_path / "a.parquet", **settings)


def test_stopped_run__makes_a_damaged_piece_again(bert, texts, tmp_path, stopped_after, monkeypatch):
    stopped_after(2)
    with pytest.raises(Stopped):
        embed(bert, texts, output=tmp_path / "a.npy", rows_per_piece=10)
    monkeypatch.undo()
    piece = sorted((tmp_path / "a.npy.pieces").glob("*.arrow"))[0]
    piece.write_bytes(piece.read_bytes()[:100])
    _, vectors, _ = embed(bert, texts, output=tmp_path / "a.npy", rows_per_piece=10)
    np.testing.assert_array_equal(vectors, embed(bert, texts, rows_per_piece=10)[1])


@pytest.mark.parametrize("settings", [{"streaming": True}, {"dataloader_num_workers": 2, "rows_per_piece": 7}])
def test_way_of_reading__changes_nothing(vit, images, settings):
    ids, vectors, labels = embed(vit, images, **settings)
    expected = embed(vit, images)
    np.testing.assert_allclose(vectors, expected.vectors, atol=1e-6)
    assert ids.tolist() == expected.ids.tolist()
    assert labels.tolist() == expected.labels.tolist()


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_rows__have_no_vector_and_are_listed(vit, tmp_path, caplog, streaming):
    folder = image_folder(tmp_path / "images", 18)
    names = sorted(folder.rglob("*.*"))
    names[4].write_bytes(b"no image")
    names[9].write_bytes(names[9].read_bytes()[:300])  # a JPEG file whose header is whole
    assert names[9].suffix == ".jpg"
    ids, vectors, _ = embed(
        vit, folder, output=tmp_path / "a.npy", rows_per_piece=8, streaming=streaming, max_bad_fraction=0.2
    )
    left = [row for row in range(18) if row not in (4, 9)]
    assert ids["row"].tolist() == left
    whole = image_folder(tmp_path / "whole", 18)
    np.testing.assert_allclose(vectors, embed(vit, whole)[1][left], atol=1e-6)
    listed = [json.loads(line) for line in (tmp_path / "a.bad_rows.jsonl").read_text().splitlines()]
    assert [(row["row"], row["path"]) for row in listed] == [(4, str(names[4])), (9, str(names[9]))]
    assert "2 of 18 rows are bad and have no vector" in caplog.text
    with pytest.raises(ValueError, match="max_bad_fraction=0.1 allows"):
        embed(vit, folder)


@pytest.mark.fast
def test_blank_rows__have_no_vector_and_are_counted(bert, tmp_path, caplog):
    pandas.DataFrame({"text": ["a seed", "", "rain", "  "]}).to_csv(tmp_path / "a.csv")
    ids, _, labels = embed(bert, tmp_path / "a.csv")
    assert ids["row"].tolist() == [0, 2]
    assert labels is None
    assert "2 of 4 rows are blank" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_several_sources__follow_one_another(bert, texts, tmp_path, streaming):
    Dataset.from_dict({"text": ["rain and sun"] * 3, "label": [1, 2, 3]}).save_to_disk(tmp_path / "saved")
    more = text_file(tmp_path / "more.jsonl", 5)
    ids, vectors, labels = embed(bert, [tmp_path / "saved", texts, more], streaming=streaming)
    assert ids["row"].tolist() == list(range(48))
    assert labels.tolist()[:5] == ["1", "2", "3", "one", "two"]  # labels of several types become text
    np.testing.assert_allclose(vectors[3:43], embed(bert, texts)[1], atol=1e-6)
    np.testing.assert_allclose(vectors[43:], embed(bert, more)[1], atol=1e-6)


def test_long_sound__has_a_vector_for_each_part(speech_encoder, sounds):
    model = speech_encoder("wav2vec2", feat_extract_norm="layer")
    ids, vectors, _ = embed(model, sounds, max_duration_in_seconds=0.2)
    assert ids["row"].tolist() == [row for row in range(18) for _ in range(2)]
    assert ids["part"].tolist() == [0, 1] * 18
    assert (vectors[::2] != vectors[1::2]).any(axis=1).all()


def test_padding__is_looked_at_where_broken_sound_comes_first(speech_encoder, tmp_path):
    """A broken file has no length, and is taken for the longest."""
    folder = sound_folder(tmp_path / "sounds", 12)
    sorted(folder.rglob("*.*"))[0].write_bytes(b"no sound")
    model = speech_encoder("wav2vec2", feat_extract_norm="group")
    alone = embed(model, folder, batch_size=1)[1]
    np.testing.assert_allclose(embed(model, folder, batch_size=6)[1], alone, atol=1e-5)


def test_bad_rows__may_be_more_when_a_run_goes_on(vit, tmp_path):
    folder = image_folder(tmp_path / "images", 12)
    for path in sorted(folder.rglob("*.*"))[3:6]:
        path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    with pytest.raises(ValueError, match="max_bad_fraction"):
        embed(vit, folder, output=tmp_path / "a.npy")
    ids, _, _ = embed(vit, folder, output=tmp_path / "a.npy", max_bad_fraction=0.5)
    assert len(ids) == 9


def test_export__writes_a_folder_with_the_same_pooling(bert, texts, vit, images, tmp_path):
    settings = {"export": "sentence-transformers", "normalize": "l2", "pooling": "cls"}
    embed(bert, texts, output=tmp_path / "a.npy", **settings)
    folder = tmp_path / "a.sentence-transformers"
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"]
    with pytest.raises(ValueError, match="exists: move it"):
        embed(bert, texts, output=tmp_path / "a.parquet", **settings)
    with pytest.raises(ValueError, match="these data are vision"):
        embed(vit, images, **settings)
    with pytest.raises(ValueError, match="pools the last hidden state"):
        embed(bert, texts, **settings, layer=1)
