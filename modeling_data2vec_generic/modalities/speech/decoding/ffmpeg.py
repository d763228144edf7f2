"""Sound in containers that libsndfile cannot read: m4a, mp4, 3gp, aac, webm, mka, amr and wma.

PyAV, the package `av`, decodes them with the ffmpeg that comes with it. It is imported only for such files.
"""

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....data.quality.reading import Unreadable
from .sound import Sound, scaled

# By the first bytes of a file, the name of the container in ffmpeg. No other of its formats is opened: some of them
# fetch further files or addresses that a file names.
_CONTAINERS = {
    rb"....ftyp": "mov,mp4,m4a,3gp,3g2,mj2",
    rb"\x1aE\xdf\xa3": "matroska,webm",
    rb"#!AMR": "amr",
    rb"\xff[\xf0\xf1\xf8\xf9]": "aac",
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
}
_COUNTED = ("amr", "aac")  # they state no length, and ffmpeg guesses it by the bit rate
_RUN_UP = 0.24  # seconds that are decoded before what is wanted: opus needs 0.08, and matroska's times are rounded
_LARGEST_DELAY = 0.1  # seconds; a sound that begins later has no sound before, and does not just skip a codec's delay
_TOLERANCE = 0.1  # seconds by which a container may state more than there is


def container_of(beginning: bytes) -> str | None:
    """The container of a file in the words of ffmpeg, by its first 16 bytes; None if it is none that is read here."""
    found = (name for pattern, name in _CONTAINERS.items() if re.match(pattern, beginning, re.DOTALL))
    return next(found, None)


class FFmpegSound(Sound):
    """The first stream of sound in a container.

    Its length is what the container states, which leaves out what the codec adds at the beginning and the end.

    Args:
        file: a path, or the content.
        container: as `container_of` gives it.

    Raises:
        ImportError: the package `av` is missing.
        Unreadable: there is no stream of sound. For broken files, PyAV raises exceptions of its own.
    """

    def __init__(self, file: io.BytesIO | str, container: str):
        self._file, self._container = file, container
        self._open()
        try:
            if not self.rate or not self.channels:
                raise Unreadable("no rate or no channels")
            begins = self._stream.start_time or 0
            self._begin = begins if begins * self._tick > _LARGEST_DELAY * self.rate else 0
            self.frames = self._length()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        try:
            import av
        except ImportError as error:
            raise ImportError(
                f"The sound is in a container ({self._container}) that libsndfile cannot read, and reading it needs "
                "the package av: `pip install av`."
            ) from error
        source: Any = f"file:{self._file}" if isinstance(self._file, str) else io.BytesIO(self._file.getbuffer())
        self._opened = av.open(source, format=self._container.partition(",")[0])
        if not self._opened.streams.audio:
            self.close()
            raise Unreadable("no stream of sound")
        self._stream = self._opened.streams.audio[0]
        self.rate, self.channels = self._stream.rate, self._stream.channels
        self._tick = float(self._stream.time_base or 0) * self.rate  # of the stream's times, in samples
        self._is_at_beginning = True

    def _length(self) -> int:
        if self._container not in _COUNTED:
            if self._stream.duration is not None:
                return round(self._stream.duration * self._tick)
            if self._opened.duration is not None:
                return round(self._opened.duration / 1e6 * self.rate - self._begin * self._tick)
        end = 0  # recorders of browsers state no length either
        for packet in self._opened.demux(self._stream):
            if packet.pts is not None:
                end = packet.pts + (packet.duration or 0)
        self._is_at_beginning = False
        return max(0, round((end - self._begin) * self._tick))

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """As in the base class.

        A part may begin 0.5 ms too early or too late in webm and mka, and 0.1 s in wma, whose times are rounded.
        """
        frames = min(frames, self.frames - start)
        before = start - _RUN_UP * self.rate
        if before > 0:
            self._opened.seek(int(before / self._tick) + self._begin, stream=self._stream, backward=True)
        elif not self._is_at_beginning:  # a seek would pass over what the codec begins with
            self.close()
            self._open()
        self._is_at_beginning = False
        blocks: list[NDArray[np.float32]] = []
        have = 0
        for frame in self._opened.decode(self._stream):
            at = start if frame.pts is None else round((frame.pts - self._begin) * self._tick)
            if not blocks and at + frame.samples <= start:
                continue
            if frame.sample_rate != self.rate:
                raise Unreadable(f"the rate changes from {self.rate} to {frame.sample_rate} Hz within the file")
            block = _values(frame)
            if not blocks:
                block = block[max(0, start - at) :]
            if len(block):
                blocks.append(block[: frames - have])
                have += len(blocks[-1])
            if have >= frames:
                break
        self.check_length(have, frames, int(_TOLERANCE * self.rate))
        return np.concatenate(blocks) if blocks else np.zeros((0, self.channels), dtype=np.float32)

    def close(self) -> None:
        self._opened.close()


def _values(frame: Any) -> NDArray[np.float32]:
    """The samples of a frame of PyAV, float32 (samples, channels)."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    return scaled(values.T if frame.format.is_planar else values.reshape(-1, channels))
