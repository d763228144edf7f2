"""How the images of a data set are decoded if they are arrays, by what some of their files hold."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ....data.encoded_files import encoded_file
from .array_image import ArrayImage
from .channels import can_become, with_channels
from .files import open_array
from .stored_array import StoredArray


@dataclass(frozen=True)
class ArrayFormat:
    """The format of a data set whose images are decoded to arrays (`ArrayImage`), and not to 8-bit RGB.

    It is kept as `array_format` of the image processor, with which it is saved.

    Attributes:
        channels: the number that the encoder reads.
        eight_bits: whether values have 8 bits; otherwise all of them have more.
    """

    channels: int
    eight_bits: bool

    @classmethod
    def of(cls, processor: Any) -> "ArrayFormat | None":
        """The one that is kept with an image processor; None if its images are ordinary ones."""
        kept = getattr(processor, "array_format", None)
        return None if kept is None else cls(**kept)

    def keep(self, processor: Any) -> None:
        """Keeps the format with an image processor."""
        processor.array_format = asdict(self)

    def checked(self, stored: StoredArray | None) -> StoredArray:
        """The same file, if its image can be decoded to this format. None stands for an ordinary image.

        Raises:
            ValueError: it has another number of channels, or 8 bits where others have more, or the reverse.
        """
        if stored is None or not self.includes(found := ArrayFormat(stored.channels, stored.eight_bits)):
            has = "8 bits, grey or RGB" if stored is None else str(found)
            raise ValueError(f"{has}, and the encoder reads {self}")
        return stored

    def image(self, stored: StoredArray | None) -> ArrayImage:
        """Decodes a file. Raises as `checked` and `StoredArray.decode`."""
        return ArrayImage(with_channels(self.checked(stored).decode(), self.channels))

    def includes(self, found: "ArrayFormat | None") -> bool:
        """Whether images of another format can be decoded to this one. None stands for ordinary images."""
        return found is not None and found.eight_bits == self.eight_bits and can_become(found.channels, self.channels)

    def __str__(self) -> str:
        """The format in words."""
        plural = "s" * (self.channels > 1)
        return f"{self.channels} channel{plural} of {'8 bits' if self.eight_bits else 'more than 8 bits'}"


@dataclass(frozen=True)
class Looked:
    """What the headers of some image files say.

    Attributes:
        values: the files, each {"bytes": content or None, "path": its path}, or None.
        formats: by position in `values`; None for ordinary images, which are read as 8-bit RGB. Files that cannot be
            read, which are named when all are checked, have none.
    """

    values: Sequence[dict[str, Any] | None]
    formats: Mapping[int, ArrayFormat | None]

    @property
    def usual(self) -> ArrayFormat | None:
        """The most frequent format; None if it is that of ordinary images, or if nothing could be read.

        It is None as well if there are ordinary images and such that differ from them in the number of their bits
        alone. These are then read as 8-bit RGB, too.
        """
        counts = Counter(self.formats.values())
        deep = [found for found in counts if found is not None and found.channels in (1, 3)]
        return None if not counts or (None in counts and deep) else counts.most_common(1)[0][0]

    def example(self, wanted: ArrayFormat | None) -> dict[str, Any] | None:
        """The first file that has a format."""
        return next((self.values[place] for place, found in self.formats.items() if found == wanted), None)

    def images(self, wanted: ArrayFormat) -> Iterator[ArrayImage]:
        """The images that can be decoded to a format. Broken ones are left out."""
        for place, found in self.formats.items():
            value = self.values[place]
            if value is not None and wanted.includes(found):
                try:
                    yield wanted.image(open_array(encoded_file(value), wanted.channels))
                except Exception:  # for broken files, decoders raise exceptions of many types
                    continue


def look_at(values: Sequence[dict[str, Any] | None], channels: int | None) -> Looked:
    """Reads the headers of image files.

    Args:
        values: as in `Looked`.
        channels: the number that the encoder reads; None if it is not known yet.
    """
    formats: dict[int, ArrayFormat | None] = {}
    for place, value in enumerate(values):
        if value is None or (value["bytes"] is None and value["path"] is None):
            continue
        try:
            stored = open_array(encoded_file(value), channels)
        except Exception:  # for broken files, decoders raise exceptions of many types
            continue
        if stored is None or stored.is_ordinary:
            formats[place] = None
        else:
            formats[place] = ArrayFormat(stored.channels, stored.eight_bits)
    return Looked(values, formats)
