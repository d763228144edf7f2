"""The kinds of data (modalities), and what reading their rows has to know about each: one record per kind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Audio, Image, List

from .column_types import is_clip, is_image, is_series, is_sound, is_text

# Arrays may be of several kinds. They count as files of a kind if there are no other files of it.
ARRAY_ENDINGS = frozenset((".npy", ".npz"))
# Pillow recognises files by their content, and passes some formats to other programs (EPS to Ghostscript). Only these
# are allowed.
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")


@dataclass(frozen=True)
class FileType:
    """A type of encoded files.

    Attributes:
        noun: what such files are called in messages.
        feature: the type of a column of such files, which does not decode them.
        extensions: the extensions of their names, in lower case.
        first_bytes: a regular expression that matches the beginning of their content.
        can_read: whether a file on the disk has a header that can be read, for files without an extension.
    """

    noun: str
    feature: Image | Audio
    extensions: frozenset[str]
    first_bytes: bytes
    can_read: Callable[[Path], bool]


@dataclass(frozen=True)
class KindOfData:
    """A kind of data.

    Attributes:
        column: the canonical name of the column with the data. The flag `column_flag` names another one.
        read_by: the main inputs of the encoders that read this kind.
        column_holds: whether a column of a type (a feature of `datasets`) can hold this kind.
        expected: what that is, in words; empty for files, since any column that can be cast to files is taken.
        file_type: the type of the files that rows consist of; None for rows without files. Series may be either.
        several_files: whether a row has a list of files. In a folder of data, each folder with files is a row then.
        noun: what rows made of files are called in messages.
    """

    column: str
    read_by: tuple[str, ...]
    column_holds: Callable[[Any], bool]
    expected: str = ""
    file_type: FileType | None = None
    several_files: bool = False
    noun: str = ""

    @property
    def column_flag(self) -> str:
        """The flag that names the column with the data."""
        return f"{self.column}_column_name"

    @property
    def feature(self) -> Any:
        """The type of a column of encoded files, which does not decode them; None for rows without files."""
        if self.file_type is None:
            return None
        return List(self.file_type.feature) if self.several_files else self.file_type.feature


def _can_read_image(path: Path) -> bool:
    import PIL.Image  # an optional dependency

    try:
        PIL.Image.open(path, formats=IMAGE_FORMATS).close()
    except Exception:  # for broken files, decoders raise exceptions of many types
        return False
    return True


def _can_read_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _can_read_sound(path: Path) -> bool:
    import soundfile  # an optional dependency

    try:
        soundfile.info(str(path))
    except soundfile.LibsndfileError:
        return False
    return True


_IMAGES = FileType(
    noun="images",
    feature=Image(decode=False),
    extensions=frozenset(
        ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpc .jpf "
        ".jpx .j2c .avif .avifs".split()
    )
    | ARRAY_ENDINGS,
    first_bytes=rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|BM|II[*+]\0|MM\0[*+]|RIFF....WEBP|\0\0\0\x0cjP|....ftypavif|\x93NUMPY",
    can_read=_can_read_image,
)
_SOUND = FileType(
    noun="sound",
    feature=Audio(decode=False),
    extensions=frozenset(
        ".wav .w64 .rf64 .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .m4a .m4b .aac .webm .weba .mka "
        ".amr .3gp .wma".split()
    )
    | ARRAY_ENDINGS,
    first_bytes=(
        rb"RIFF....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|fLaC|OggS|ID3|\xff[\xfb\xf3\xf2\xf1\xf9]|FORM....AIF|\.snd|caff|"
        rb"....ftyp(M4A|M4B|mp4|iso|dash|3gp|qt)|\x1aE\xdf\xa3|#!AMR|\x30\x26\xb2\x75\x8e\x66\xcf\x11"
    ),
    can_read=_can_read_sound,
)
_ARRAYS = FileType(
    noun="arrays",
    feature=Image(decode=False),
    extensions=ARRAY_ENDINGS,
    first_bytes=rb"\x93NUMPY",
    can_read=_can_read_array,
)
# By the names that --modality takes, in the order in which messages list them.
KINDS = {
    "text": KindOfData("text", ("input_ids",), is_text, expected="strings"),
    "vision": KindOfData("image", ("pixel_values",), is_image, file_type=_IMAGES, noun="images"),
    "speech": KindOfData("audio", ("input_values", "input_features"), is_sound, file_type=_SOUND, noun="sounds"),
    "series": KindOfData(
        "series",
        ("past_values",),
        is_series,
        expected="lists of numbers, or of lists with a number per channel, or .npy files",
        file_type=_ARRAYS,
        noun="series",
    ),
    "video": KindOfData(
        "video",
        ("pixel_values", "pixel_values_videos"),
        is_clip,
        file_type=_IMAGES,
        several_files=True,
        noun="clips",
    ),
}
# The type of file that a row is, for the kinds whose rows are one file each. An array is an image here, since only the
# encoder can say that it is a series.
FILE_TYPES = {
    name: kind.file_type
    for name, kind in KINDS.items()
    if kind.file_type is not None and kind.file_type is not _ARRAYS and not kind.several_files
}
