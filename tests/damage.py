"""Files and texts, whole and damaged, for the tests of what comes from hostile hands.

Everything is drawn from a `random.Random`, so that a seed names an input.
"""

import copy
import io
import json
import random
from typing import Any

import numpy as np
import PIL.Image
import soundfile

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 60, (1 << 64) - 1)
IMAGE_FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "DIB": ("RGB",),
    "GIF": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "AVIF": ("RGB",),
    # Pillow writes these, too, and a name says nothing of what a file holds.
    "EPS": ("RGB",),
    "ICO": ("RGBA",),
    "ICNS": ("RGBA",),
    "IM": ("RGB",),
    "MPO": ("RGB",),
    "PCX": ("RGB",),
    "PDF": ("RGB",),
    "SGI": ("RGB",),
    "SPIDER": ("F",),
    "TGA": ("RGB",),
    "XBM": ("1",),
    "DDS": ("RGB",),
    "BLP": ("P",),
    "QOI": ("RGB",),
}
SOUND_FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "PCM_U8"),
    ("WAV", "IMA_ADPCM"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
)
STRANGE_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**6,
    10**12,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "\0",
    "\ud800",
    "-1",
    "none",
    "../../etc/passwd",
    "x" * 10_000,
    [],
    {},
    [None],
    [[[[]]]],
    {"": {}},
)


def whole_images(size: tuple[int, int] = (12, 9)) -> dict[str, bytes]:
    """An image of each format and mode that Pillow writes, by "FORMAT mode"."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    colours = PIL.Image.fromarray(noise, "RGBA")
    found = {}
    for kind, modes in IMAGE_FORMATS.items():
        for mode in modes:
            image = colours.convert("L").convert("I;16") if mode == "I;16" else colours.convert(mode)
            found[f"{kind} {mode}"] = encoded(image, kind)
    frames = [colours.convert("P").rotate(turn) for turn in (0, 90, 180)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        found[f"{kind} frames"] = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    return found


def encoded(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def whole_sounds(samples: int = 600) -> dict[str, bytes]:
    """A mono and a stereo sound of each format, by "FORMAT subtype channels"."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (samples, 2))
    found = {}
    for kind, subtype in SOUND_FORMATS:
        for channels in (1, 2):
            buffer = io.BytesIO()
            soundfile.write(buffer, noise[:, :channels], 16000, format=kind, subtype=subtype)
            found[f"{kind} {subtype} {channels}"] = buffer.getvalue()
    return found


def damaged(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`content` with one to three kinds of damage; `others` lend their heads and tails."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_DAMAGES)(bytearray(content), others, rng)
    return content


def _flipped(content: bytearray, others: list[bytes], rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 8)):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _field_set(content: bytearray, others: list[bytes], rng: random.Random) -> bytes:
    """A number of the head, where sizes, counts and rates are, becomes an extreme one."""
    width = rng.choice((1, 2, 4, 8))
    place = rng.randrange(max(1, min(len(content), 96)))
    value = rng.choice(EXTREMES) & ((1 << 8 * width) - 1)
    content[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return bytes(content)


def _cut_off(content: bytearray, others: list[bytes], rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content) + 1)])


def _cut_out(content: bytearray, others: list[bytes], rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    del content[start : start + rng.randint(1, 40)]
    return bytes(content)


def _stuffed(content: bytearray, others: list[bytes], rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return bytes(content[:start] + rng.randbytes(rng.randint(1, 40)) + content[start:])


def _spliced(content: bytearray, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return bytes(content[: rng.randint(1, 40)]) + other[rng.randrange(len(other)) :]


_DAMAGES = (_flipped, _field_set, _field_set, _cut_off, _cut_out, _stuffed, _spliced)


def damaged_json(value: Any, rng: random.Random) -> bytes:
    """A JSON object with one to three fields changed, removed or added, or its text damaged."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        holder, key = rng.choice(places)
        change = rng.randrange(4)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[rng.choice(("", "\ud800", "model_type", "_name_or_path", "x" * 1000))] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(rng.choice(STRANGE_VALUES))
        if not value:
            break
    text = json.dumps(value).encode()
    if rng.random() < 0.3:
        text = damaged(text, [text, b"[" * 100_000, b"\xff\xfe\0", b'{"a":' * 20_000], rng)
    return text


def _places(value: Any) -> Any:
    """(dictionary or list, key) of everything in a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
