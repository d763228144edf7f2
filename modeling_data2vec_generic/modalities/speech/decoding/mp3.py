"""MP3 files: repairs those that do not state their length or state it wrongly, and cuts pieces out of long ones.

Decoders rely on the number of frames that is stated in a first frame without sound ("Xing" or "Info"). Some recorders
leave that frame out, and a decoder then guesses by the size of the first frames. If something is appended to a file,
the number is too small. Here frames are counted by their own headers, without decoding them.

To find a place in a file, decoders read the headers of all frames before it, which takes 0.1 s for an hour. Here the
place is computed, exactly if all frames have one bit rate, and about otherwise.

All functions take the content of a file as bytes or as a memory map, of which only what is needed is read.
"""

import itertools
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ....data.quality.reading import Unreadable

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
_DECODER_DELAY = 529  # samples that decoders of layer III are late, besides the delay that the encoder states
_RESERVOIR = 511  # bytes before a frame in which its sound may begin
_RUN_UP = 2  # frames, beyond those of the reservoir, from whose sound a frame goes on
_LARGEST_FRAME = 1441  # bytes
_ESTIMATED_BY = 200  # frames whose average size stands for all, in files that do not state their number
_SPARE = 0.05  # share of the size of a file by which the stated size may differ, due to tags at its end

Content = bytes | mmap.mmap


@dataclass(frozen=True)
class _Frame:
    version: int
    mono: bool
    size: int
    rate: int
    bit_rate: int

    @property
    def samples(self) -> int:
        """Samples of each channel."""
        return 1152 if self.version == 1 else 576

    @property
    def exact_size(self) -> float:
        """In bytes; `size` is this, rounded down or up."""
        return self.samples / 8 * self.bit_rate / self.rate

    @property
    def side_information(self) -> int:
        """Number of bytes between the header of a frame and its sound."""
        if self.version == 1:
            return 17 if self.mono else 32
        return 9 if self.mono else 17


def uncounted_frames(content: Content) -> int:
    """The number of frames with sound, if the file does not state it or states fewer.

    It is 0 if the file states the right number, or is no MP3.
    """
    start = _first_frame(content)
    if start is None:
        return 0
    stated, has_header = _stated(content, start)
    count = sum(1 for _ in _frames(content, start)) - has_header
    return count if stated is None or stated < count else 0


def with_frame_count(content: Content, count: int) -> bytes:
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


@dataclass(frozen=True)
class Mp3Layout:
    """Where the frames of a file are.

    Args:
        first: the first frame with sound.
        place: its place in the file, in bytes.
        end: the end of the file.
        count: the number of frames with sound, as stated, or else estimated by the size of the first ones.
        delay: samples at the beginning that are left out, since encoder and decoder have added them.
        padding: samples at the end that are left out.
    """

    first: _Frame
    place: int
    end: int
    count: int
    delay: int
    padding: int

    @classmethod
    def of(cls, content: Content) -> "Mp3Layout":
        """Reads the beginning of a file.

        Raises:
            Unreadable: it is no MP3 file, or it states that it is larger than it is.
        """
        place = _first_frame(content)
        if place is None:
            raise Unreadable("no frame of MPEG layer III")
        stated, has_header = _stated(content, place)
        delay = padding = 0
        if has_header:
            header = _frame(content, place)
            assert header is not None
            size = len(content) - place
            tag = content[place + 4 + header.side_information :][:_LARGEST_FRAME]
            promised = _promised_size(tag)
            if promised is not None and promised > size:
                raise Unreadable(f"truncated: {size} of {promised} bytes are there")
            if promised is not None and promised < (1 - _SPARE) * size:
                stated = None  # something was appended
            delay, padding = _gapless(tag)
            place += header.size
        first = _frame(content, place)
        if first is None:
            raise Unreadable("no frame with sound")
        if stated is None:
            places = list(itertools.islice(_frames(content, place), _ESTIMATED_BY + 1))
            average = (places[-1] - place) / (len(places) - 1) if len(places) > 1 else first.size
            stated = round((len(content) - place) / average)
        return cls(first, place, len(content), stated, delay, padding)

    @property
    def samples(self) -> int:
        """Samples of each channel."""
        return max(0, self.count * self.first.samples - self.delay - self.padding)

    def piece(self, content: Content, start: int, samples: int) -> tuple[bytes, int]:
        """A short file with a part of the sound.

        Args:
            content: the file.
            start: the first sample of the part.
            samples: the number of samples.

        Returns:
            The short file, and the place in its sound where the part begins. If the bit rate of the file varies, the
            part begins only about at `start`, but has as many samples, unless the file has fewer.
        """
        number, offset = divmod(start + self.delay, self.first.samples)
        wanted = -(-(offset + samples) // self.first.samples)
        begin = self._place_of(content, number)
        while True:
            ahead = max(self.place, begin - _RESERVOIR - (_RUN_UP + 1) * _LARGEST_FRAME)
            before: list[int] = []
            places: list[int] = []
            for place in _frames(content, ahead):
                (before if place < begin else places).append(place)
                if len(places) == wanted + 1:
                    break
            if len(places) >= wanted or begin <= self.place:
                break
            begin = max(self.place, begin - (wanted - len(places)) * _LARGEST_FRAME)  # too near to the end
        if not places:
            raise Unreadable("truncated: no frame is there")
        end = places[wanted] if len(places) > wanted else self.end
        part = bytes(content[[*before, *places][0] : end])
        # Decoders leave out their own delay at the beginning of any file that states its number of frames.
        skipped = max(0, len(before) * self.first.samples + offset - _DECODER_DELAY)
        return with_frame_count(part, len(before) + min(wanted, len(places))), skipped

    def _place_of(self, content: Content, number: int) -> int:
        """The place of a frame, in bytes, or about that place."""
        exact = self.place + int(number * self.first.exact_size)
        for place in (exact, exact + 1, exact - 1):
            frame = _frame(content, place)
            if frame is not None and frame.bit_rate == self.first.bit_rate and _is_followed(content, place):
                return place
        return self.place + (self.end - self.place) * min(number, self.count) // max(self.count, 1)


def _promised_size(tag: bytes) -> int | None:
    """The number of bytes that a first frame without sound states, from its own beginning on; None if it has none."""
    flags = int.from_bytes(tag[4:8])
    if not flags & 2:
        return None
    place = 8 + 4 * (flags & 1)
    return int.from_bytes(tag[place : place + 4]) or None


def _gapless(tag: bytes) -> tuple[int, int]:
    """The samples that decoders leave out at the beginning and at the end, which LAME's part of the tag states."""
    flags = int.from_bytes(tag[4:8])
    place = 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    if tag[place : place + 4] not in (b"LAME", b"Lavf", b"Lavc"):
        return 0, 0
    both = int.from_bytes(tag[place + 21 : place + 24])
    return (both >> 12) + _DECODER_DELAY, max(0, (both & 0xFFF) - _DECODER_DELAY)


def _stated(content: Content, start: int) -> tuple[int | None, bool]:
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


def _frames(content: Content, place: int) -> Iterator[int]:
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


def _first_frame(content: Content) -> int | None:
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


def _is_followed(content: Content, place: int) -> bool:
    """Whether a frame begins here and another one after it. Sound may look like one header, but hardly like two."""
    frame = _frame(content, place)
    return frame is not None and _frame(content, place + frame.size) is not None


def _frame(content: Content, place: int) -> _Frame | None:
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
    return _Frame(version, head[3] >> 6 == 3, size, rate, 1000 * bit_rate)
