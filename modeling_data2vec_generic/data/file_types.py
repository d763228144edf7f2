"""Which files hold data: their endings, the formats of images, and paths as patterns."""

from pathlib import Path

EXTENSIONS = {
    "vision": frozenset(
        ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpc .jpf "
        ".jpx .j2c .avif .avifs".split()
    ),
    "speech": frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au".split()),
}
# Pillow goes by the content, whatever the name, and knows formats that it hands to other programs (EPS: Ghostscript).
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")


def escaped(path: Path) -> str:
    """The absolute path as a pattern that matches it alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path.absolute()))
