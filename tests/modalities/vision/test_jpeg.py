"""JPEG files are decoded late and at the smallest scale that is enough, and show what Pillow shows."""

import io
import pickle

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from transformers import ViTImageProcessorPil

from modeling_data2vec_generic.masking.sample_rng import RowGenerators
from modeling_data2vec_generic.modalities.vision.images import decode_image
from modeling_data2vec_generic.modalities.vision.jpeg import UndecodedJpeg
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop

pytestmark = pytest.mark.fast

BICUBIC = PIL.Image.Resampling.BICUBIC
WIDTH, HEIGHT = 525, 397  # neither is a multiple of 8: the last blocks are not full


def waves(mode="RGB"):
    """A picture whose parts all look different, and of which a shift by a few pixels is seen."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    channels = [np.sin(x / 18 + y / 62), np.cos(y / 22 - x / 94), np.sin((x + y) / 34) * np.cos(x / 166)]
    pixels = np.stack([127.5 + 110 * channel for channel in channels], axis=-1).astype(np.uint8)
    return PIL.Image.fromarray(pixels).convert(mode)


def jpeg(orientation=1, mode="RGB"):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    waves(mode).save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    return buffer.getvalue()


def by_pillow(content):
    return PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content))).convert("RGB")


@pytest.mark.parametrize(("orientation", "mode"), [*((turn, "RGB") for turn in range(10)), (1, "L"), (6, "CMYK")])
def test_decode_image__jpeg_is_an_image_like_any_other(orientation, mode, tmp_path):
    content = jpeg(orientation, mode)
    (tmp_path / "a.jpg").write_bytes(content)
    expected = by_pillow(content)
    for value in ({"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "a.jpg")}):
        image = decode_image(value)
        assert isinstance(image, UndecodedJpeg)
        assert (image.mode, image.size) == ("RGB", expected.size)
        assert np.array_equal(np.asarray(image), np.asarray(expected))
        assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(image))), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
def test_cut__shows_the_same_part_at_each_scale_and_orientation(divisor, orientation):
    content = jpeg(orientation)
    whole = by_pillow(content)
    box = (9, 5, 9 + 384, 5 + 384) if divisor > 1 else (120, 101, 241, 187)
    size = (384 // divisor,) * 2 if divisor > 1 else (80, 60)
    ours = UndecodedJpeg(content).cut(box, size, BICUBIC).numpy().astype(int)
    error = np.abs(ours - np.asarray(whole.resize(size, BICUBIC, box=box)))
    assert error.mean() < 1


@pytest.mark.parametrize(
    ("size", "decoded_at"), [((48, 48), 8), ((49, 40), 4), ((96, 96), 4), ((97, 96), 2), ((193, 10), 1)]
)
def test_cut__decodes_no_more_and_no_fewer_pixels_than_are_enough(size, decoded_at, monkeypatch):
    scales = []
    decoded = UndecodedJpeg._decoded
    monkeypatch.setattr(UndecodedJpeg, "_decoded", lambda image, scale: scales.append(scale) or decoded(image, scale))
    image = UndecodedJpeg(jpeg())
    for _ in range(2):  # an image may be read again
        assert image.cut((3, 4, 387, 388), size, BICUBIC).shape == (size[1], size[0], 3)
    assert set(scales) == {decoded_at}


@pytest.mark.parametrize("resample", [BICUBIC, PIL.Image.Resampling.BILINEAR, PIL.Image.Resampling.LANCZOS])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_cropped__differs_little_from_that_of_the_decoded_image(mode, resample):
    grey = {"image_mean": [0.0], "image_std": [1 / 255]} if mode == "L" else {"do_normalize": False}
    side = {"height": 48, "width": 64}
    pipeline = PixelPipeline(ViTImageProcessorPil(size=side, resample=resample, **grey))
    content = jpeg(6)
    both = [
        pipeline.cropped([image] * 8, RandomResizedCrop(), RowGenerators.for_samples(0, 0, range(8), 3), False)
        for image in (UndecodedJpeg(content), by_pillow(content))
    ]
    error = (both[0].float() - both[1].float()).abs()
    assert error.mean() < 1
    assert (error.mean(dim=(1, 2, 3)) > 0).any()
