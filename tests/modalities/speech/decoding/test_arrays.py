"""Arrays of numbers are read as sound."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soxr
from datasets import Array2D, Dataset, Features, List, Value

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.modalities.speech.decoding.sound_files import open_sound
from modeling_data2vec_generic.modalities.speech.inspection import inspect
from modeling_data2vec_generic.modalities.speech.waveforms import decode_audio, prepare_speech

pytestmark = pytest.mark.fast

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, (2_000, 2)).astype(np.float32)


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return {"bytes": buffer.getvalue(), "path": None}


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (NOISE[:, 0], NOISE[:, 0]),
        (NOISE[:, 0].astype(np.float64), NOISE[:, 0]),
        (NOISE, NOISE.mean(axis=1)),
        (NOISE.T, NOISE.mean(axis=1)),
        (np.array([2**14, -(2**15)] * 500, dtype=np.int16), np.array([0.5, -1.0] * 500)),
        (np.array([192, 0] * 500, dtype=np.uint8), np.array([0.5, -1.0] * 500)),
        (np.array([2**30, -(2**31)] * 500, dtype=np.int32), np.array([0.5, -1.0] * 500)),
    ],
    ids=["float32", "float64", "channels last", "channels first", "int16", "uint8", "int32"],
)
def test_npy__is_scaled_by_its_type_and_mixed_down(values, expected, tmp_path):
    np.save(tmp_path / "a.npy", values)
    for source in (npy(values), {"bytes": None, "path": str(tmp_path / "a.npy")}):
        assert np.allclose(decode_audio(source, RATE), expected, atol=1e-6)
        with open_sound(source, RATE) as sound:
            part = sound.read(100, 50)
        assert np.allclose(part.mean(axis=1), expected[100:150], atol=1e-6)


@pytest.mark.parametrize("name", ["sampling_rate", "sr", "fs", "sample_rate"])
def test_npz__may_state_its_rate(name):
    source = npz(sound=NOISE[:, 0], **{name: np.array(8_000)})
    with open_sound(source, RATE) as sound:
        assert (sound.rate, sound.frames, sound.states_rate) == (8_000, 2_000, True)
    assert len(decode_audio(source, RATE)) == 4_000


def test_npz__without_rate_has_the_given_one():
    with open_sound(npz(x=NOISE), 22_050) as sound:
        assert (sound.rate, sound.frames, sound.channels, sound.states_rate) == (22_050, 2_000, 2, False)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (npy(np.zeros((4, 5, 6))), r"an array of shape \(4, 5, 6\) and type float64: expected numbers with one axis"),
        (npy(np.array(["a"])), "an array of <U1, and real numbers"),
        (npy(np.array([{}], dtype=object)), "an array of object"),
        (npz(a=NOISE, b=NOISE), "a .npz file with 2 arrays"),
        (npy(np.zeros(0)), "^$"),
        (npy(np.array([0.0, np.nan] * 500)), "not finite"),
        (npz(a=NOISE, sr=np.array([1, 2])), "sr in a .npz file has shape"),
        ({"bytes": npy(NOISE)["bytes"][:-100], "path": None}, "bytes of values where"),
    ],
    ids=["three axes", "strings", "objects", "two arrays", "nothing", "NaN", "two rates", "truncated"],
)
def test_array__of_something_else_is_bad(source, problem):
    assert re.search(problem, inspect(source, RATE)["problem"])


def in_table(folder, values, feature=None, **flags):
    """The samples of a parquet file whose column `audio` holds these values, and the flags."""
    features = None if feature is None else Features({"audio": feature})
    Dataset.from_dict({"audio": values}, features=features).to_parquet(folder / "a.parquet")
    args = DataArguments(train_file=str(folder / "a.parquet"), **flags)
    assert infer_modality(args) == "speech"
    raw = load_raw_datasets(args, "speech", validation=False)["train"]
    return [row["audio"] for row in prepare_speech(raw, SimpleNamespace(sampling_rate=RATE), args, "train", 400)]


def test_column__of_arrays_with_their_rate(tmp_path):
    found = in_table(tmp_path, [{"array": row.tolist(), "sampling_rate": 8_000} for row in NOISE.T])
    assert [len(sound) for sound in found] == [4_000, 4_000]
    assert np.allclose(found[0], soxr.resample(NOISE[:, 0], 8_000, RATE), atol=1e-6)


@pytest.mark.parametrize("flags", [{}, {"array_sampling_rate": 8_000}])
def test_column__of_arrays_whose_rate_is_said(flags, tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    found = in_table(tmp_path, (NOISE.T * 2**15).astype(np.int16).tolist(), List(Value("int16")), **flags)
    assert [len(sound) for sound in found] == [4_000 if flags else 2_000] * 2
    assert f"2 of 2 sounds are arrays without a sampling rate: {8_000 if flags else RATE} Hz is taken" in caplog.text
    if not flags:
        assert np.allclose(found[1], NOISE[:, 1], atol=1e-4)


def test_column__of_arrays_of_several_channels(tmp_path):
    found = in_table(tmp_path, [NOISE.T.tolist()] * 2, Array2D((2, 2_000), "float32"))
    assert np.allclose(found[0], NOISE.mean(axis=1), atol=1e-6)
