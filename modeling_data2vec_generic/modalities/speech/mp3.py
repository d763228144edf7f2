"""Finds and repairs MP3 files that do not state their length, or state it wrongly.

Decoders rely on the number of frames that is stated in a first frame without sound ("Xing" or "Info"). Some recorders
leave that frame out, and a decoder then guesses by the size of the first frames. If something is appended to a file,
the number is too small. Here frames are counted by their own headers, without decoding them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_BIT_RATES = {  # kbit/s by version (1, 2 for 2 and 2.5)
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_RATES = {
    3: (44100, 48000, 32000, 0),
    2: (22050, 24000, 16000, 0),
    0: (11025, 12000, 8000, 0),
}  # Hz, by the bits of the version
_ROOMY = 9  # index of a bit rate whose frames are large enough for the header
_FIRST_BYTES = 4096  # after the tags, in which the first frame has to begin


@dataclass(frozen=True)
class _Frame:
    version: int
    mono: bool
    size: int

    @property
    def side_information(self) -> int:
        """Number of bytes between the header of a frame and its sound."""
        if self.version == 1:
            return 17 if self.mono else 32
        return 9 if self.mono else 17


def uncounted_frames(content: bytes) -> int:
    """The number of frames with sound, if the file does not state it or states fewer.

    It is 0 if the file states the right number, or is no MP3.
    """
    start = _first_frame(content)
    if start is None:
        return 0
    stated, has_header = _stated(content, start)
    count = sum(1 for _ in _frames(content, start)) - has_header
    return count if stated is None or stated < count else 0


def with_frame_count(content: bytes, count: int) -> bytes:
    """The content of the file with a new first frame, which states `count` as the number of frames."""
    start = _first_frame(content)
    assert start is not None, "no MP3"
    if _stated(content, start)[1]:
        frame = _frame(content, start)
        assert frame is not None
        start += frame.size
    sound = content[start:]
    # A header without checksum and padding.
    header = bytes((0xFF, sound[1] | 1, _ROOMY << 4 | (sound[2] & 0x0C), sound[3]))
    frame = _frame(header, 0)
    assert frame is not None
    total = struct.pack(">4sIII", b"Xing", 3, count, frame.size + len(sound))
    return (header + bytes(frame.side_information) + total).ljust(frame.size, b"\0") + sound


def _stated(content: bytes, start: int) -> tuple[int | None, bool]:
    """The number of frames that the first frame states (None if it states none), and whether it has no sound."""
    frame = _frame(content, start)
    assert frame is not None
    place = start + 4 + frame.side_information
    if content[place : place + 4] in (b"Xing", b"Info"):
        flags, count = struct.unpack(">II", content[place + 4 : place + 12].ljust(8, b"\0"))
        return (count if flags & 1 else None), True
    if content[start + 36 : start + 40] == b"VBRI":
        return struct.unpack(">I", content[start + 50 : start + 54].ljust(4, b"\0"))[0], True
    return None, False


def _frames(content: bytes, place: int) -> Iterator[int]:
    """The places of the frames, where `place` is that of the first. Anything between frames, such as the tags of an
    appended file, is skipped."""
    while 0 <= place:
        frame = _frame(content, place)
        if frame is not None:
            if place + frame.size > len(content):
                return
            yield place
            place += frame.size
        else:
            place = content.find(b"\xff", place + 1)
            while place >= 0 and not _is_followed(content, place):
                place = content.find(b"\xff", place + 1)


def _first_frame(content: bytes) -> int | None:
    """The place of the first frame, after tags (ID3); None if there is none."""
    place = 0
    while content[place : place + 3] == b"ID3" and len(content) > place + 10:
        length = 0
        for byte in content[place + 6 : place + 10]:
            length = length << 7 | byte & 0x7F
        place += 10 + length + (10 if content[place + 5] & 0x10 else 0)
    end = place + _FIRST_BYTES
    place = content.find(b"\xff", place, end)
    while place >= 0 and not _is_followed(content, place):
        place = content.find(b"\xff", place + 1, end)
    return place if place >= 0 else None


def _is_followed(content: bytes, place: int) -> bool:
    """Whether a frame begins here and another one after it. Sound may look like one header, but hardly like two."""
    frame = _frame(content, place)
    return frame is not None and _frame(content, place + frame.size) is not None


def _frame(content: bytes, place: int) -> _Frame | None:
    """The frame of MPEG layer III that begins at `place`; None if there is none."""
    head = content[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version_bits = head[1] >> 3 & 3
    if version_bits == 1:
        return None
    version = 1 if version_bits == 3 else 2
    bit_rate, rate = _BIT_RATES[version][head[2] >> 4], _RATES[version_bits][head[2] >> 2 & 3]
    if not bit_rate or not rate:
        return None
    size = (144000 if version == 1 else 72000) * bit_rate // rate + (head[2] >> 1 & 1)
    return _Frame(version, head[3] >> 6 == 3, size)
