"""Sound of any rate and number of channels is read, bad clips are found, parts of long ones are read."""

import io
import pickle
import re
import struct
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from datasets import Dataset
from torch.utils.data import DataLoader

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality.reading import Blank, Unreadable
from modeling_data2vec_generic.data.quality.screening import NothingLeft
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.modalities.speech.decoding.mp3 import _first_frame, _frame
from modeling_data2vec_generic.modalities.speech.inspection import inspect
from modeling_data2vec_generic.modalities.speech.waveforms import decode_audio, prepare_pieces, prepare_speech

pytestmark = pytest.mark.fast

RATE = 16_000
EXTRACTOR = SimpleNamespace(sampling_rate=RATE)


def tone(seconds, rate=RATE, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(sound, rate=RATE, kind="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def folder_of(tmp_path, files):
    root = tmp_path / "sounds"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def prepared(root, min_samples=400, prepare=prepare_speech, **flags):
    args = DataArguments(train_dir=str(root), **flags)
    raw = load_raw_datasets(args, "speech", validation=False)["train"]
    return prepare(raw, EXTRACTOR, args, "train", min_samples)


# Decoding


@pytest.mark.parametrize("kind", ["WAV", "OGG", "FLAC"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_decode__any_format_rate_and_channels(kind, rate, channels):
    sound = np.stack([tone(1.0, rate)] * channels, axis=1)
    decoded = decode_audio({"bytes": encoded(sound, rate, kind), "path": None}, RATE)
    assert decoded.dtype == np.float32
    assert decoded.ndim == 1
    assert abs(len(decoded) - RATE) <= 1
    inner = slice(2_000, 14_000)  # resampling and the codec change the ends
    assert np.abs(decoded[inner] - tone(1.0)[inner]).max() < 0.05


def test_decode__channels_are_averaged():
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    decoded = decode_audio({"bytes": encoded(stereo, subtype="FLOAT"), "path": None}, RATE)
    assert np.allclose(decoded, 0.125)


# Prepared rows


def test_prepare_speech__rows(tmp_path):
    root = folder_of(tmp_path, {"a.wav": encoded(tone(0.5)), "b.ogg": encoded(tone(0.25, 8_000), 8_000, "OGG")})
    dataset = prepared(root)
    assert sorted(dataset[0]) == ["audio", "clip", "length", "sample_index"]
    assert dataset["length"][:] == [len(row["audio"]) for row in dataset]
    assert [len(row["audio"]) for row in dataset] == [RATE // 2, RATE // 4]
    assert [row["sample_index"] for row in dataset] == [0, 1]
    assert dataset[0]["audio"].dtype == np.float32


def random_sound(seconds, rate=RATE):
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def place_of(part, sound):
    """Where the part begins in the sound, of which it must be a slice."""
    (start,) = [
        start for start in np.flatnonzero(sound == part[0]) if np.array_equal(sound[start:][: len(part)], part)
    ]
    return int(start)


def classes_of_sound(tmp_path):
    """A clip of half a second in class `a`, and one of 2.6 seconds, which is returned, in class `b`."""
    sound = random_sound(2.6)
    for label, clip in (("a", sound[: RATE // 2]), ("b", sound)):
        (tmp_path / label).mkdir(parents=True)
        soundfile.write(tmp_path / label / "x.wav", clip, RATE, subtype="FLOAT")
    return sound


def test_prepare_speech__a_long_clip_gives_several_samples_with_its_label(tmp_path):
    sound = classes_of_sound(tmp_path)
    dataset = prepared(tmp_path, max_duration_in_seconds=1.0)
    assert dataset["length"][:] == [8_000, 16_000, 16_000, 16_000]
    assert dataset["label"][:] == [0, 1, 1, 1]
    assert dataset["clip"][:] == [0, 1, 1, 1]
    assert dataset["sample_index"][:] == [0, 1, 2, 3]
    assert dataset.features["label"].names == ["a", "b"]
    assert dataset.select_columns("label")[:] == {"label": [0, 1, 1, 1]}
    assert np.array_equal(dataset[0]["audio"], sound[:8_000])
    assert [place_of(row["audio"].fixed(), sound) for row in list(dataset)[1:]] == [0, 12_800, 25_600]
    assert [place_of(dataset[1]["audio"].crop([place]), sound) for place in (0, 0.25, 1)] == [0, 6_400, 25_600]


def test_prepare_pieces__cover_a_long_clip(tmp_path):
    sound = classes_of_sound(tmp_path)
    dataset = prepared(tmp_path, prepare=prepare_pieces, max_duration_in_seconds=1.0)
    assert dataset["length"][:] == [8_000, 16_000, 16_000, 16_000]
    assert dataset["label"][:] == [0, 1, 1, 1]
    assert [place_of(row["audio"], sound) for row in list(dataset)[1:]] == [0, 12_800, 25_600]


def test_prepare_pieces__of_another_rate_keep_to_the_limits(tmp_path):
    root = folder_of(tmp_path, {"a.wav": encoded(tone(3.33, 22_050), 22_050)})
    dataset = prepared(root, prepare=prepare_pieces, max_duration_in_seconds=0.777, min_samples=2_000)
    assert [len(row["audio"]) for row in dataset] == [int(0.777 * RATE)] * 5


def test_prepare_pieces__keep_silence(tmp_path):
    root = folder_of(tmp_path, {"a.wav": encoded(tone(0.1)), "b.wav": encoded(np.zeros(RATE))})
    assert len(prepared(root, prepare=prepare_pieces)) == 2


SILENCE = {
    "zeros": (np.zeros(RATE), "silent"),
    "one level": (np.full(RATE, 0.25), "silent"),
    "dither": (np.tile([0, 1, -1, 1], RATE // 4) / 2**15, "silent"),
    "nothing": (np.zeros(0), "without samples"),
    "too little": (tone(0.02), "shorter than the 400 samples that the model needs"),
}


@pytest.mark.parametrize("kind", SILENCE)
def test_prepare_speech__much_that_cannot_be_used_is_left_out_without_counting_as_bad(kind, tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    sound, reason = SILENCE[kind]
    files = {f"{number}.wav": encoded(sound) for number in range(3)}
    root = folder_of(tmp_path, files)
    with pytest.raises(NothingLeft, match=f"No train sound is left: all 3 are {reason}"):
        prepared(root)
    (root / "3.wav").write_bytes(encoded(tone(0.1)))
    assert [len(row["audio"]) for row in prepared(root)] == [RATE // 10]
    assert f"3 of 4 sounds are {reason} and left out" in caplog.text
    assert "are bad" not in caplog.text


# Clips that are not looked at before training


@pytest.fixture
def few_headers(monkeypatch):
    """As if the split had more clips than are looked at, and than whose headers are read."""
    monkeypatch.setattr("modeling_data2vec_generic.data.quality.screening._FIRST_LOOK", 2)
    monkeypatch.setattr("modeling_data2vec_generic.modalities.speech.waveforms._MOST_HEADERS", 3)


def test_prepare_speech__of_many_clips_one_sample_each(tmp_path, few_headers):
    root = folder_of(tmp_path, {f"{n}.wav": encoded(random_sound(s)) for n, s in enumerate((0.5, 2.6, 0.5, 0.5))})
    dataset = prepared(root, max_duration_in_seconds=1.0)
    assert sorted(dataset[0]) == ["audio", "sample_index"]
    assert [len(row["audio"]) for row in list(dataset)[::2]] == [8_000, 8_000]
    assert len(dataset[1]["audio"].fixed()) == RATE
    known = prepared(root, prepare=partial(prepare_speech, lengths_wanted=True), max_duration_in_seconds=1.0)
    assert known["length"][:] == [8_000, 16_000, 16_000, 16_000, 8_000, 8_000]


@pytest.mark.parametrize("lengths_wanted", [False, True])
def test_prepare_speech__what_is_wrong_with_many_clips_is_found_when_they_are_read(
    lengths_wanted, tmp_path, monkeypatch
):
    monkeypatch.setattr("modeling_data2vec_generic.modalities.speech.waveforms._MOST_HEADERS", 3)
    files = {
        "0.wav": encoded(tone(0.1)),
        "1.wav": b"hello",
        "2.wav": encoded(np.zeros(RATE)),
        "3.wav": encoded(tone(0.02)),
        "4.wav": encoded(tone(0.1))[:-600],
        "5.wav": encoded(np.array([np.nan] * 500), subtype="FLOAT"),
    }
    root = folder_of(tmp_path, files)
    monkeypatch.setattr(
        "modeling_data2vec_generic.modalities.speech.waveforms.first_look", lambda rows, _: rows.select([0])
    )
    dataset = prepared(root, prepare=partial(prepare_speech, lengths_wanted=lengths_wanted))
    found = [row["audio"] for row in dataset]
    if not lengths_wanted:  # otherwise its header shows that it is too short
        assert isinstance(found.pop(3), Blank)
    assert len(found.pop(0)) == RATE // 10
    assert [type(value) for value in found] == [Unreadable, Blank, Unreadable, Unreadable]
    assert [value.reason[:9] for value in found[1:]] == ["silence", "truncated", "samples t"]
    assert found[0].path.endswith("1.wav")


def test_prepare_speech__a_missing_package_is_an_error_and_no_bad_row(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    root = folder_of(tmp_path, {"a.m4a": b"\0\0\0\x20ftypM4A \0\0\0\0"})
    with pytest.raises(ImportError, match="pip install av"):
        prepared(root)


def test_prepare_speech__shorter_than_wished_is_left_out_without_counting_as_bad(tmp_path, transformers_log):
    root = folder_of(tmp_path, {"a.wav": encoded(tone(0.2)), "b.wav": encoded(tone(1.0))})
    assert len(prepared(root, min_duration_in_seconds=0.5)) == 1
    assert "bad" not in transformers_log.text
    with pytest.raises(ValueError, match="No train sound is left: all 2 are shorter than min_duration_in_seconds=5.0"):
        prepared(root, min_duration_in_seconds=5.0)


def test_prepare_speech__limit_below_what_the_model_needs(tmp_path):
    root = folder_of(tmp_path, {"a.wav": encoded(tone(1.0))})
    with pytest.raises(ValueError, match=r"max_duration_in_seconds=0.01 is 160 samples.*needs 400 .*at least 0.025"):
        prepared(root, max_duration_in_seconds=0.01)


def test_prepare_speech__bytes_in_a_table(tmp_path):
    clips = [{"bytes": encoded(tone(0.5)), "path": None}] * 3
    Dataset.from_dict({"audio": clips}).to_parquet(tmp_path / "a.parquet")
    args = DataArguments(train_file=str(tmp_path / "a.parquet"), modality="speech")
    raw = load_raw_datasets(args, "speech", validation=False)["train"]
    assert len(prepare_speech(raw, EXTRACTOR, args, "train", 400)[2]["audio"]) == RATE // 2


# Bad clips


def bad_clips():
    wav, flac = encoded(tone(1.0)), encoded(tone(1.0), kind="FLAC")
    ogg = encoded(np.random.default_rng(0).normal(0, 0.1, 5 * RATE), kind="OGG")
    return {
        "cut.wav": (wav[: len(wav) // 2], "truncated: "),
        "cut.flac": (flac[: len(flac) // 2], "Error"),
        "cut.ogg": (ogg[: len(ogg) * 3 // 4], "truncated: "),
        "early.ogg": (ogg[:2_000], "Error"),
        "none.wav": (b"hello", "Error"),
        "empty.wav": (b"", "an empty file"),
        "nan.wav": (encoded(np.array([np.nan] * 500), subtype="FLOAT"), "not finite"),
    }


@pytest.mark.parametrize("name", list(bad_clips()))
def test_bad_clips__are_skipped_and_named(tmp_path, transformers_log, name):
    content, reason = bad_clips()[name]
    good = {f"{number:02d}.wav": encoded(tone(0.1)) for number in range(9)}
    dataset = prepared(folder_of(tmp_path, {**good, name: content}))
    assert len(dataset) == 9
    assert all(len(row["audio"]) == RATE // 10 for row in dataset)
    assert "1 of 10 train sounds are bad" in transformers_log.text
    assert f"{name}: " in transformers_log.text
    assert reason in transformers_log.text


def test_bad_clips__more_than_a_tenth_fails(tmp_path):
    good = {f"{number:02d}.wav": encoded(tone(0.1)) for number in range(8)}
    root = folder_of(tmp_path, {**good, "x.wav": b"x", "y.wav": b"y"})
    with pytest.raises(ValueError, match="2 of 10 train sounds are bad .*--max_bad_fraction"):
        prepared(root)
    assert len(prepared(root, max_bad_fraction=0.2)) == 8


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x7FFFFFFF])
def test_streamed_wav__whose_header_does_not_know_the_length_is_whole(tmp_path, declared):
    content = bytearray(encoded(tone(0.5)))
    at = content.index(b"data") + 4
    content[at : at + 4] = declared.to_bytes(4, "little")
    root = folder_of(tmp_path, {"a.wav": bytes(content)})
    assert len(prepared(root)[0]["audio"]) == RATE // 2


def lengths(examples):
    return [(example["sample_index"], len(example["audio"])) for example in examples]


def test_prepare_speech__from_several_workers(tmp_path):
    root = folder_of(tmp_path, {f"{number:02d}.wav": encoded(tone(0.1 + number / 100)) for number in range(8)})
    dataset = pickle.loads(pickle.dumps(prepared(root)))
    loader = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=lengths)
    found = [pair for batch in loader for pair in batch]
    assert found == [(number, 1_600 + 160 * number) for number in range(8)]


# Malicious input


def wav_of(rate=RATE, channels=1, frames=RATE, data_size=None):
    """A WAV file of 16-bit samples whose header states these numbers; by default it states the true length."""
    content = b"\x10\0\0\x20" * (channels * frames // 2)
    size = len(content) if data_size is None else data_size
    bytes_per_second = min(2 * channels * rate, 2**32 - 1)
    format_part = struct.pack("<HHIIHH", 1, channels, rate, bytes_per_second, 2 * channels, 16)
    head = b"RIFF" + struct.pack("<I", min(36 + size, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", 16)
    return head + format_part + b"data" + struct.pack("<I", size) + content


HOSTILE = {
    "a rate of 0": (wav_of(rate=0), "LibsndfileError"),
    "a rate of 1 Hz": (wav_of(rate=1), "a rate of 1 Hz, which is not within 100 to 1000000"),
    "a rate of 2 GHz": (wav_of(rate=2**31 - 1), "a rate of 2147483647 Hz"),
    "a rate beyond a signed number": (wav_of(rate=2**31), "Hz|LibsndfileError"),
    "1,000 channels": (wav_of(channels=1000, frames=500), "1000 channels, more than 64"),
    "more samples than there are": (wav_of(data_size=0x7FFE0000), "truncated: 32000 of 2147352576 bytes"),
    "numbers beyond any sound": (encoded(np.full(RATE, 1e30, np.float32), subtype="FLOAT"), "beyond any sound"),
    "infinity": (encoded(np.full(RATE, np.inf, np.float32), subtype="FLOAT"), "not finite"),
    "text": (b"hello", "LibsndfileError"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_prepare__hostile_clips_are_skipped_and_named(kind, tmp_path, transformers_log, little_memory):
    content, why = HOSTILE[kind]
    files = {f"{number}.wav": encoded(tone(0.1)) for number in range(19)}
    root = folder_of(tmp_path, files | {"bad.wav": content})
    with little_memory(1 << 30):
        assert len(prepared(root)) == 19
    assert re.search(rf"1 of 20 train sounds are bad \(.*bad\.wav: .*({why})", transformers_log.text)


def test_prepare__an_mp3_with_fewer_samples_than_its_header_says(tmp_path, transformers_log):
    whole = encoded(tone(1.0), kind="MP3")
    files = {f"{number}.mp3": whole for number in range(19)}
    dataset = prepared(folder_of(tmp_path, files | {"bad.mp3": whole[: len(whole) // 2]}))
    assert len(dataset) == 19
    assert re.search(r"bad\.mp3: truncated: \d+ of \d+ samples", transformers_log.text)


@pytest.mark.parametrize(("rate", "channels"), [(100, 1), (1_000_000, 1), (16_000, 64)])
def test_prepare__unusual_sound_at_the_limits(rate, channels, tmp_path):
    root = folder_of(tmp_path, {"a.wav": wav_of(rate, channels, 2 * rate)})
    dataset = prepared(root, prepare=prepare_pieces, max_duration_in_seconds=1.5)
    assert [len(row["audio"]) for row in dataset] == [24_000, 24_000]


# Files with a wrong length


def sound_of(seconds, rate=16000, **options):
    """An encoded file that is silent except in its last second."""
    noise = np.random.default_rng(0).normal(0, 0.3, rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate([np.zeros(rate * (seconds - 1)), noise]), rate, **options)
    return buffer.getvalue()


def mp3_without_length(seconds):
    content = sound_of(seconds, format="MP3", bitrate_mode="VARIABLE", compression_level=0.1)
    first = _first_frame(content)
    return content[first + _frame(content, first).size :]


@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\1\0" + bytes(128)])
@pytest.mark.parametrize("parts", [1, 2])
def test_prepare_speech__of_mp3_all_that_decodes(tag, parts, tmp_path):
    single = mp3_without_length(6) if parts == 1 else sound_of(6, format="MP3")
    dataset = prepared(folder_of(tmp_path, {"a.mp3": tag + single * parts}))
    loud = np.abs(dataset[0]["audio"])
    assert len(loud) == pytest.approx(parts * 6 * 16000, abs=4000)
    assert [loud[(6 * part + 5) * 16000 + 2000 :][:12000].mean() > 0.1 for part in range(parts)] == [True] * parts
    assert loud[: 5 * 16000 - 2000].mean() < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"format": "OGG", "subtype": "OPUS"},
        {"format": "OGG", "subtype": "VORBIS"},
        {"format": "AIFF", "subtype": "PCM_16"},
        {"format": "AU", "subtype": "PCM_16"},
        {"format": "WAV", "subtype": "PCM_16"},
        {"format": "MP3"},
    ],
    ids=lambda options: options.get("subtype", "MP3") + options["format"],
)
@pytest.mark.parametrize("share", [0.7, 0.97])
def test_inspect__what_is_cut_off_is_truncated(options, share):
    content = sound_of(3, **options)
    assert inspect({"bytes": content, "path": None}, RATE)["problem"] == ""
    assert "truncated" in inspect({"bytes": content[: int(len(content) * share)], "path": None}, RATE)["problem"]
