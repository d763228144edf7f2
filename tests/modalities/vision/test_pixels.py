import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BeitImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    DeiTImageProcessor,
    ViTImageProcessor,
)

from modeling_data2vec_generic.masking.sample_rng import RowGenerators
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop

pytestmark = pytest.mark.fast

GREY = {"image_mean": [0.3], "image_std": [0.4]}
PROCESSORS = {
    "vit": lambda: ViTImageProcessor(size={"height": 24, "width": 24}),
    "vit, non-square, other numbers": lambda: ViTImageProcessor(
        size={"height": 16, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.1, 0.2, 0.3], rescale_factor=1 / 200
    ),
    "vit, not normalised": lambda: ViTImageProcessor(size={"height": 24, "width": 24}, do_normalize=False),
    "vit, not rescaled": lambda: ViTImageProcessor(size={"height": 24, "width": 24}, do_rescale=False),
    "vit, grey": lambda: ViTImageProcessor(size={"height": 24, "width": 24}, **GREY),
    "beit": lambda: BeitImageProcessor(size={"height": 24, "width": 24}),
    "clip, crops the centre": lambda: CLIPImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    ),
    "deit, enlarges before it crops": lambda: DeiTImageProcessor(
        size={"height": 28, "width": 28}, crop_size={"height": 24, "width": 24}
    ),
    "convnext, crops the centre by itself": lambda: ConvNextImageProcessor(size={"shortest_edge": 24}, crop_pct=0.8),
}


def random_images(*sizes, mode="RGB"):
    rng = np.random.default_rng(0)
    depth = {"RGB": (3,), "L": ()}[mode]
    return [Image.fromarray(rng.integers(0, 256, (height, width, *depth), dtype=np.uint8)) for width, height in sizes]


def streams(rows, epoch=0):
    return RowGenerators.for_samples(0, epoch, range(rows), purpose=3)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("sizes", [[(24, 24)] * 3, [(32, 16)] * 3, [(24, 24), (40, 30), (17, 51)]])
@pytest.mark.parametrize("name", PROCESSORS)
def test_plain__equals_the_image_processor(name, sizes, mode):
    processor = PROCESSORS[name]()
    images = random_images(*sizes, mode=mode)
    converted = [image.convert("L" if "grey" in name else "RGB") for image in images]
    expected = processor(converted, return_tensors="pt")["pixel_values"].float()
    ours = PixelPipeline(processor).plain(images)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSORS)
def test_cropped__a_crop_of_everything_is_the_resized_image(name):
    # Even at scale 1 the aspect ratio is random, so the images look the same in all their parts.
    processor = PROCESSORS[name]()
    images = [Image.new("RGB", (30, 30), colour) for colour in ("red", "white", "black", (10, 200, 90))]
    expected = PixelPipeline(processor).plain(images)
    cropped = PixelPipeline(processor).cropped(images, RandomResizedCrop(), streams(4))
    torch.testing.assert_close(cropped, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("processor_mode", ["vit", "vit, grey"])
def test_cropped__shows_the_drawn_box_and_mirrors_it(processor_mode):
    processor = PROCESSORS[processor_mode]()
    images = random_images(*[(60, 40)] * 20)
    crop = RandomResizedCrop(scale_min=0.3)
    boxes, mirrored = crop.draw(np.array([[60, 40]] * 20), streams(20))
    assert 3 < mirrored.sum() < 17
    expected = []
    for image, box, mirror in zip(images, boxes.tolist(), mirrored, strict=True):
        part = image.convert("L" if "grey" in processor_mode else "RGB").crop(tuple(box))
        part = part.resize((24, 24), Image.Resampling.BILINEAR)
        expected.append(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else part)
    wanted = processor(expected, return_tensors="pt")["pixel_values"]
    ours = PixelPipeline(processor).cropped(images, crop, streams(20))
    # At the edges of the box, resize(box=...) uses pixels outside of it, which a part that was cut out first does not
    # have.
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(ours[inner], wanted.float()[inner], rtol=0, atol=2.1 / 255 / 0.4)


def test_draw__areas_ratios_and_places_spread_over_their_ranges():
    sizes = np.tile([[80, 60], [100, 100], [50, 90]], (2000, 1))
    boxes, mirrored = RandomResizedCrop(scale_min=0.2, scale_max=0.8).draw(sizes, streams(6000))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= sizes).all()
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    share, aspect = width * height / sizes.prod(axis=1), width / height
    assert share.min() > 0.18
    assert share.max() < 0.82
    assert aspect.min() > 0.72
    assert aspect.max() < 1.39
    square = (sizes == 100).all(axis=1)
    assert abs(share[square].mean() - 0.5) < 0.01
    assert abs(np.log(aspect[square]).mean()) < 0.01
    left_share = boxes[square, 0] / np.maximum(1, 100 - width[square])
    assert abs(left_share.mean() - 0.5) < 0.03
    assert (left_share == 0).any()
    assert (left_share == 1).any()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(6000)


def test_draw__without_flip_nothing_is_mirrored():
    assert not RandomResizedCrop(flip=False).draw(np.array([[9, 9]] * 100), streams(100))[1].any()


@pytest.mark.parametrize(
    ("size", "box"), [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506)), ((1, 1), (0, 0, 1, 1))]
)
def test_draw__very_long_images_get_the_largest_centred_part(size, box):
    boxes, _ = RandomResizedCrop(scale_min=0.9).draw(np.array([size]), streams(1))
    assert tuple(boxes[0]) == box


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.8, 0.5), (0.5, 1.5)])
def test_crop__scales_out_of_order(low, high):
    with pytest.raises(ValueError, match=f"crop scale \\[{low}, {high}\\]"):
        RandomResizedCrop(scale_min=low, scale_max=high)


def test_pipeline__needs_one_size():
    with pytest.raises(ValueError, match="many shapes, but a batch needs one"):
        PixelPipeline(ViTImageProcessor(size={"shortest_edge": 24}))
    with pytest.raises(ValueError, match="do_resize=False"):
        PixelPipeline(ViTImageProcessor(do_resize=False))


def test_pipeline__refuses_a_processor_that_does_something_else():
    class Inverting(type(ViTImageProcessor())):
        def _preprocess(self, images, **settings):
            return super()._preprocess([255 - image for image in images], **settings)

    with pytest.raises(ValueError, match="Inverting does more"):
        PixelPipeline(Inverting(size={"height": 24, "width": 24}))
