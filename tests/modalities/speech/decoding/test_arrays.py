"""Arrays of numbers are read as sound."""

import io
import re

import numpy as np
import pytest

from modeling_data2vec_generic.modalities.speech.decoding.sound_files import open_sound
from modeling_data2vec_generic.modalities.speech.inspection import inspect
from modeling_data2vec_generic.modalities.speech.waveforms import decode_audio

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


@pytest.mark.parametrize("name", ["sampling_rate", "sr", "fs", "Sample_Rate"])
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
        (npy(np.array(["a"])), "and type <U1"),
        (npy(np.array([{}], dtype=object)), "pickle"),
        (npz(a=NOISE, b=NOISE), "the arrays a, b: expected one, and its sampling_rate or none"),
        (npy(np.zeros(0)), "^$"),
        (npy(np.array([0.0, np.nan] * 500)), "not finite"),
        ({"bytes": npy(NOISE)["bytes"][:-100], "path": None}, "Error"),
    ],
    ids=["three axes", "strings", "objects", "two arrays", "nothing", "NaN", "truncated"],
)
def test_array__of_something_else_is_bad(source, problem):
    assert re.search(problem, inspect(source, RATE)["problem"])
