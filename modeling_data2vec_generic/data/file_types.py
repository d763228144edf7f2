"""Which files hold data: the extensions of each modality, the formats of images, and paths as glob patterns."""

from pathlib import Path

EXTENSIONS = {
    "vision": frozenset(
        ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpc .jpf "
        ".jpx .j2c .avif .avifs".split()
    ),
    "speech": frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au".split()),
}
# Pillow recognises files by their content, and passes some formats to other programs (EPS to Ghostscript). Only these
# are allowed.
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")


def escaped(path: Path) -> str:
    """The absolute path as a glob pattern that matches only this path."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path.absolute()))
