"""Opens encoded files of sound, reads any part of them, and finds what is wrong with them.

soundfile decodes (wav, flac, ogg, opus, mp3, aiff, ...), since the decoding of datasets needs torchcodec. What it
cannot read is left to PyAV (`ffmpeg.py`) and numpy (`arrays.py`).
"""

import io
import mmap
import re
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ....data.encoded_files import encoded_file
from ....data.quality.reading import Unreadable
from ...numpy_files import is_numpy
from .arrays import ArraySound
from .ffmpeg import FFmpegSound, container_of
from .mp3 import Mp3Layout, uncounted_frames, with_frame_count
from .sound import Sound

# Lowest and highest sampling rate. A damaged header may state any rate, and resampling 1 Hz to 16 kHz would take
# 16,000 times the memory.
_RATES = (100, 1_000_000)
_MOST_CHANNELS = 64
_UNKNOWN_LENGTH = 0x7FFF0000  # lengths above this are placeholders of recorders that write to a pipe
_NO_LENGTH = 1 << 62  # what libsndfile gives for flac files from a pipe, which state no length, is above this
# Samples that are decoded before what is wanted. The sound of a block of vorbis (8192 samples at most) goes on in the
# next one, and opus needs 0.08 s. libsndfile leaves that to its callers.
_RUN_UP = {"OGG": 8192}
# What libsndfile logs about wrong lengths in the headers of wav, aiff and au.
_SHORTFALL = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_LAST_PAGE = 0x04  # flag in the header of a page of an Ogg stream
_OGG_LARGEST_PAGE = 65307
_FIRST_BYTES = 16
# Bytes of an MP3 file up to which all of its frames are counted, a matter of milliseconds. Of larger ones, only the
# part that is wanted is read.
_SHORT_MP3 = 1 << 21


def open_sound(value: dict[str, Any] | None, array_rate: int, whole: bool = False) -> Sound:
    """Opens an encoded file of any type.

    Args:
        value: {"bytes": encoded file or None, "path": its path}.
        array_rate: the sampling rate, in Hz, of arrays that do not state theirs.
        whole: whether the length of a large MP3 file has to be exact, for which all of it is read.

    Raises:
        ImportError: a package that such files need is missing.
        Unreadable: the file cannot be used. For broken files, decoders raise exceptions of other types.
    """
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise Unreadable("no sound")
    file = encoded_file(value)
    beginning = _beginning(file)
    container = container_of(beginning)
    sound: Sound
    if is_numpy(beginning):
        sound = ArraySound(file, array_rate)
    else:
        sound = _SndFile(file) if container is None else FFmpegSound(file, container)
    try:
        if isinstance(sound, _SndFile) and sound.format == "MP3":
            sound.close()
            sound = _open_mp3(file, whole)
        elif sound.frames >= _NO_LENGTH:  # libsndfile finds no place in it either
            sound.close()
            sound = FFmpegSound(file, "flac")
        _check_header(sound)
    except BaseException:
        sound.close()
        raise
    return sound


def _beginning(file: io.BytesIO | str) -> bytes:
    if isinstance(file, str):
        with open(file, "rb") as opened:
            return opened.read(_FIRST_BYTES)
    return file.getbuffer()[:_FIRST_BYTES].tobytes()


def _check_header(sound: Sound) -> None:
    """Raises Unreadable if what the header states would take too much memory."""
    lowest, highest = _RATES
    if not lowest <= sound.rate <= highest:
        raise Unreadable(f"a rate of {sound.rate} Hz, which is not within {lowest} to {highest}")
    if sound.channels > _MOST_CHANNELS:
        raise Unreadable(f"{sound.channels} channels, more than {_MOST_CHANNELS}")


class _SndFile(Sound):
    """A file that libsndfile reads.

    Raises:
        Unreadable: it is truncated.
    """

    def __init__(self, file: io.BytesIO | str):
        self._file = soundfile.SoundFile(file)
        self.rate, self.channels, self.frames = self._file.samplerate, self._file.channels, self._file.frames
        self.format = self._file.format
        try:
            self._check_whole(file)
        except BaseException:
            self.close()
            raise

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        frames = min(frames, self.frames - start)
        before = min(start, _RUN_UP.get(self.format, 0))
        self._file.seek(start - before)
        # Not by `SoundFile.blocks`: with fewer frames than the header states, it returns uninitialised memory.
        block = self._file.read(before + frames, dtype="float32", always_2d=True)[before:]
        self.check_length(len(block), frames)
        return block

    def close(self) -> None:
        self._file.close()

    def _check_whole(self, file: io.BytesIO | str) -> None:
        """Raises Unreadable if the file is truncated. libsndfile reads a truncated wav or ogg without an error."""
        if remark := _SHORTFALL.search(self._file.extra_info):
            promised, present = int(remark[1]), int(remark[2])
            if present < promised < _UNKNOWN_LENGTH:
                raise Unreadable(f"truncated: {present} of {promised} bytes are there")
        if self.format == "OGG" and not _ends_with_last_page(_tail(file, _OGG_LARGEST_PAGE)):
            raise Unreadable("truncated: the stream has no last page, or a part of it only")


def _ends_with_last_page(tail: bytes) -> bool:
    """Whether an Ogg stream ends with a complete page that is marked as the last one."""
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27] if page >= 0 else b""
    if len(header) < 27 or not header[5] & _OGG_LAST_PAGE:
        return False
    sizes = tail[page + 27 : page + 27 + header[26]]
    return len(sizes) == header[26] and page + 27 + len(sizes) + sum(sizes) <= len(tail)


def _tail(file: io.BytesIO | str, size: int) -> bytes:
    """The last `size` bytes of the file."""
    if not isinstance(file, str):
        return file.getbuffer()[-size:].tobytes()
    with io.FileIO(file) as stream:
        stream.seek(0, io.SEEK_END)
        stream.seek(max(0, stream.tell() - size))
        return stream.read()


def _open_mp3(file: io.BytesIO | str, whole: bool) -> Sound:
    """Opens an MP3 file, whose length libsndfile may not know."""
    content: Any = file.getvalue() if isinstance(file, io.BytesIO) else None
    if content is None:
        with open(file, "rb") as opened:  # type: ignore[arg-type]
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    if not whole and len(content) > _SHORT_MP3:
        return _LongMp3(content)
    count = uncounted_frames(content)
    return _SndFile(io.BytesIO(with_frame_count(bytes(content[:]), count)) if count else file)


class _LongMp3(Sound):
    """A large MP3 file, of which only the frames around a part are read. Its length may be an estimate."""

    def __init__(self, content: bytes | mmap.mmap):
        self._content = content
        self._layout = Mp3Layout.of(content)
        self.rate, self.channels = self._layout.first.rate, 1 if self._layout.first.mono else 2
        self.frames = self._layout.samples

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """As in the base class. If the bit rate of the file varies, the part begins only about at `start`."""
        frames = min(frames, self.frames - start)
        piece, skipped = self._layout.piece(self._content, start, frames)
        with soundfile.SoundFile(io.BytesIO(piece)) as sound:
            block = sound.read(skipped + frames, dtype="float32", always_2d=True)[skipped:]
        self.check_length(len(block), frames, self._layout.first.samples * 2)
        return block

    def close(self) -> None:
        if isinstance(self._content, mmap.mmap):
            self._content.close()
