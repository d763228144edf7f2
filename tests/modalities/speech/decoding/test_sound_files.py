"""Any part of a file of sound is the slice of the whole, whatever decodes it."""

import io

import av
import numpy as np
import pytest
import soundfile

from modeling_data2vec_generic.modalities.speech.decoding import sound_files
from modeling_data2vec_generic.modalities.speech.decoding.sound import scaled
from modeling_data2vec_generic.modalities.speech.decoding.sound_files import open_sound
from modeling_data2vec_generic.modalities.speech.inspection import inspect
from modeling_data2vec_generic.modalities.speech.waveforms import decode_audio

pytestmark = pytest.mark.fast

RATE = 16_000
SECONDS = 3


def sweep(rate=RATE, seconds=SECONDS):
    """A tone that rises, so that no part of it is like another, and noise."""
    times = np.arange(round(rate * seconds)) / rate
    noise = 0.02 * np.random.default_rng(0).normal(size=len(times))
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * times) * times) + noise).astype(np.float32)


def libsndfile(format, subtype=None, rate=RATE, channels=1, **options):
    sound = np.stack([sweep(rate), 0.5 * sweep(rate)][:channels], axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=format, subtype=subtype, **options)
    return buffer.getvalue()


def ffmpeg(container, codec, rate=RATE, layout="mono", **options):
    """The same sound as PyAV writes it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, container_options=options) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout, bit_rate=64_000)
        channels = 1 if layout == "mono" else 2
        for start in range(0, rate * SECONDS, 4096):
            block = np.stack([sweep(rate), 0.5 * sweep(rate)][:channels])[:, start : start + 4096]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return buffer.getvalue()


EXACT = {
    "wav": lambda: libsndfile("WAV"),
    "wav, 24 bits, stereo": lambda: libsndfile("WAV", "PCM_24", channels=2),
    "rf64": lambda: libsndfile("RF64"),
    "w64": lambda: libsndfile("W64"),
    "caf, alac": lambda: libsndfile("CAF", "ALAC_16"),
    "aiff": lambda: libsndfile("AIFF"),
    "au, mu-law": lambda: libsndfile("AU", "ULAW"),
    "flac": lambda: libsndfile("FLAC"),
    "vorbis": lambda: libsndfile("OGG", "VORBIS"),
    "opus": lambda: libsndfile("OGG", "OPUS"),
    "mp3": lambda: libsndfile("MP3", rate=44_100, channels=2),
    "m4a": lambda: ffmpeg("ipod", "aac"),
    "m4a, alac, stereo": lambda: ffmpeg("ipod", "alac", layout="stereo"),
    "mka, flac": lambda: ffmpeg("matroska", "flac"),
    "aac": lambda: ffmpeg("adts", "aac"),
}
# With the seconds that a part may begin too early or too late.
ROUNDED = {
    "webm, opus": (lambda: ffmpeg("webm", "libopus"), 0.0005),
    "wma": (lambda: ffmpeg("asf", "wmav2", rate=44_100), 0.1),
}


def opened(content):
    return open_sound({"bytes": content, "path": None}, RATE)


def problem_of(content):
    return inspect({"bytes": content, "path": None}, RATE)["problem"]


@pytest.mark.parametrize("kind", EXACT)
def test_read__any_part_is_the_slice_of_the_whole(kind, tmp_path):
    content = EXACT[kind]()
    (tmp_path / "sound").write_bytes(content)
    for source in ({"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "sound")}):
        with open_sound(source, RATE) as sound:
            whole = sound.read(0, sound.frames)
            assert whole.dtype == np.float32
            assert sound.frames == pytest.approx(SECONDS * sound.rate, abs=0 if kind != "aac" else 2048)
            for start in (0, sound.rate, 31_111, 12_345, sound.frames - 5000):
                part = sound.read(start, 5000)
                assert np.abs(part - whole[start : start + 5000]).max() < 1e-3
    assert whole.shape[1] == (2 if "stereo" in kind or kind == "mp3" else 1)
    inner = slice(4_000, 30_000)  # codecs change the ends
    delay = 1024 if kind == "aac" else 0  # it does not state what the encoder has added
    found = decode_audio(source, RATE)
    expected = sweep() * (0.75 if whole.shape[1] == 2 else 1)
    assert np.abs(found[delay:][inner] - expected[inner]).mean() < 0.03


@pytest.mark.parametrize("kind", ROUNDED)
def test_read__a_part_of_a_file_whose_times_are_rounded_is_a_slice_nearby(kind):
    content, seconds = ROUNDED[kind]
    with opened(content()) as sound:
        assert sound.frames == pytest.approx(SECONDS * sound.rate, abs=0.03 * sound.rate)
        whole = sound.read(0, sound.frames)[:, 0]
        for start in (sound.rate, 31_111, 12_345):
            part = sound.read(start, 5000)[:, 0]
            first = start - round(seconds * sound.rate) - 1
            near = whole[first : start + (start - first) + 1]
            places = first + np.flatnonzero(np.isclose(near, part[0], atol=1e-3))
            assert any(np.allclose(whole[place : place + 5000], part, atol=1e-3) for place in places)


@pytest.mark.parametrize("kind", ["m4a", "mka, flac", "flac", "wav", "webm, opus"])
def test_inspect__what_is_cut_off_is_bad(kind):
    content = EXACT[kind]() if kind in EXACT else ROUNDED[kind][0]()
    assert problem_of(content) == ""
    assert problem_of(content[: int(0.6 * len(content))])


def test_inspect__an_m4a_for_the_web_whose_end_is_missing_is_bad(tmp_path):
    with av.open(io.BytesIO(EXACT["m4a"]())) as file:
        path = tmp_path / "a.m4a"
        with av.open(path, "w", format="ipod", container_options={"movflags": "faststart"}) as copy:
            stream = copy.add_stream_from_template(file.streams.audio[0])
            for packet in file.demux(file.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert problem_of(content) == ""
    assert problem_of(content[: int(0.6 * len(content))])


def test_open_sound__a_video_without_sound_is_bad():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        for packet in [*stream.encode(av.VideoFrame(16, 16, "yuv420p")), *stream.encode(None)]:
            file.mux(packet)
    assert problem_of(buffer.getvalue()) == "no stream of sound"


# Large MP3 files


@pytest.fixture
def only_parts(monkeypatch):
    """Small MP3 files are read as large ones are."""
    monkeypatch.setattr(sound_files, "_SHORT_MP3", 0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("level", [0.1, 0.9])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\1\0" + bytes(128)])
def test_read__a_part_of_an_mp3_of_one_bit_rate_is_the_slice_of_the_whole(rate, level, tag, only_parts):
    content = libsndfile("MP3", rate=rate, bitrate_mode="CONSTANT", compression_level=level)
    whole = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
    with opened(tag + content) as sound:
        assert sound.frames == len(whole)
        for start in (1_200, 12_345, rate, sound.frames - 5000):
            assert np.allclose(sound.read(start, 5000), whole[start : start + 5000], atol=1e-6)


def vbr(seconds=SECONDS, tag=True):
    """An MP3 of changing bit rate: noise, then silence in turns of half a second."""
    turns = np.repeat(np.arange(2 * seconds) % 2 == 0, 22_050)
    noise = np.where(turns, np.random.default_rng(0).normal(0, 0.3, len(turns)), 0)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, 44_100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    return buffer.getvalue()


@pytest.mark.parametrize("start", [0, 20_000, 70_000, 3 * 44_100 - 30_000])
def test_read__a_part_of_an_mp3_of_changing_bit_rate_is_some_slice_of_the_whole(start, only_parts):
    content = vbr()
    whole = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    with opened(content) as sound:
        assert sound.frames == len(whole)
        part = sound.read(start, 30_000)[:, 0]
    assert len(part) == 30_000
    loudest = int(np.abs(part).argmax())
    places = np.flatnonzero(np.isclose(whole, part[loudest], atol=1e-6)) - loudest
    assert any(np.allclose(whole[max(place, 0) :][:30_000], part, atol=1e-5) for place in places if place >= 0)


def test_read__a_large_mp3_that_states_more_bytes_than_it_has_is_truncated(only_parts):
    content = libsndfile("MP3", rate=44_100)
    assert "truncated" in problem_of(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated"):
        opened(content[: len(content) // 2])


def test_read__a_large_mp3_to_which_another_was_appended_is_as_long_as_both(only_parts):
    content = libsndfile("MP3", rate=44_100, bitrate_mode="CONSTANT")
    with opened(content + content) as sound:
        assert sound.frames == pytest.approx(2 * SECONDS * 44_100, rel=0.02)
        assert len(sound.read(5 * 44_100, 20_000)) == 20_000


# Others


def test_open_sound__a_flac_that_does_not_state_its_length_is_counted():
    content = bytearray(libsndfile("FLAC"))
    content[21] &= 0xF0  # the last 36 bits of 8 bytes, in the block behind the first 8 bytes
    content[22:26] = bytes(4)
    with opened(bytes(content)) as sound:
        assert sound.frames == SECONDS * RATE
        assert np.abs(sound.read(20_000, 1000)[:, 0] - sweep()[20_000:21_000]).max() < 1e-4


def test_scaled__integers_lie_between_minus_one_and_one():
    assert scaled(np.array([-128, 0, 64], dtype=np.int8)).tolist() == [-1, 0, 0.5]
    assert scaled(np.array([0, 128, 192], dtype=np.uint8)).tolist() == [-1, 0, 0.5]
    assert scaled(np.array([-(2**15), 2**14], dtype=np.int16)).tolist() == [-1, 0.5]
    assert scaled(np.array([-(2**31), 2**30], dtype=np.int32)).tolist() == [-1, 0.5]
    assert scaled(np.array([0.25, 3.0])).tolist() == [0.25, 3.0]
