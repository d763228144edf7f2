"""Images that are arrays: how they are recognised, scaled, cropped and kept with the image processor."""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from modeling_data2vec_generic import DataCollatorForData2VecVision
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.masking.sample_rng import RowGenerators
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities import modality_class
from modeling_data2vec_generic.modalities.vision.arrays.array_format import ArrayFormat
from modeling_data2vec_generic.modalities.vision.arrays.array_image import ArrayImage
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop
from modeling_data2vec_generic.modalities.vision.segmentation_labels import prepare_masked_images, screen_masks
from modeling_data2vec_generic.training.arguments import ModelArguments
from modeling_data2vec_generic.versions import AutoImageProcessor

pytestmark = pytest.mark.fast

MASK = MaskSampler("random", 0.5)


def saved(root, images, form="npy"):
    """A folder of images, 000.npy and so on."""
    root.mkdir(exist_ok=True)
    for number, values in enumerate(images):
        path = root / f"{number:03d}.{form}"
        Image.fromarray(values).save(path) if form in ("png", "tif") else np.save(path, values)
    return root


def scenes(count, channels=5, size=(16, 20), dtype=np.uint16):
    """Images (H, W, C) whose channels have other means and spreads; (H, W) for one channel."""
    rng = np.random.default_rng(0)
    values = rng.normal(1000 * (np.arange(channels) + 1), 50 * (np.arange(channels) + 1), (count, *size, channels))
    return values.astype(dtype).squeeze(-1) if channels == 1 else values.astype(dtype)


def vision(root, encoder=None, model_name=None, overrides=None, **flags):
    """The modality for a folder, with its rows, fitted to `encoder` or to a new one."""
    args = DataArguments(train_dir=str(root), **flags)
    rows = load_raw_datasets(args, "vision", validation=False)["train"]
    names = {"model_name_or_path": str(model_name)} if model_name else {"model_type": "vit"}
    made = modality_class("vision")(ModelArguments(**names, config_overrides=overrides), args, rows)
    made.fit(encoder or new_encoder(**made.encoder_defaults()))
    return made, rows


def new_encoder(num_channels=3, image_size=16):
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return ViTModel(ViTConfig(image_size=image_size, patch_size=8, num_channels=num_channels, **size))


@pytest.mark.parametrize("first", [False, True])
def test_fit__statistics_of_the_training_images_are_saved_with_the_processor(first, tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    images = scenes(7)
    made, rows = vision(saved(tmp_path / "images", np.moveaxis(images, 3, 1) if first else images))
    processor = made.processor
    np.testing.assert_allclose(processor.image_mean, images.mean(axis=(0, 1, 2), dtype=np.float64))
    np.testing.assert_allclose(processor.image_std, images.std(axis=(0, 1, 2), dtype=np.float64))
    assert processor.rescale_factor == 1
    assert "num_channels=5" in caplog.text
    assert "Images are arrays of 5 channels of more than 8 bits, whose values are kept: image_mean=[" in caplog.text
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert [*loaded.image_mean, *loaded.image_std] == [*processor.image_mean, *processor.image_std]

    # What the encoder reads is what the saved processor gives for an image of the right size.
    sample = made.prepare(rows, "train", MASK)[3]
    np.testing.assert_array_equal(sample["image"].values, images[3])
    ours = PixelPipeline(loaded).plain([ArrayImage(images[3, :, :16])])
    theirs = loaded([images[3, :, :16]], do_resize=False, input_data_format="channels_last", return_tensors="pt")
    torch.testing.assert_close(ours, theirs["pixel_values"].float(), rtol=1e-5, atol=1e-5)
    assert abs(ours.mean().item()) < 0.1


def test_fit__a_new_run_on_other_images_scales_as_the_encoder_was_trained(tmp_path):
    made, _ = vision(saved(tmp_path / "images", scenes(7)))
    folder = tmp_path / "encoder"
    encoder = new_encoder(5)
    encoder.save_pretrained(folder)
    made.processor.save_pretrained(folder)
    again, rows = vision(saved(tmp_path / "others", scenes(3) * 2), encoder, folder)
    assert again.processor.image_mean == made.processor.image_mean
    assert again.prepare(rows, "train", MASK)[0]["image"].values.max() > 9000


@pytest.mark.parametrize(
    ("flags", "mean", "std"),
    [
        ({"image_mean": [7.0], "image_std": [2.0]}, [7] * 5, [2] * 5),
        ({"image_mean": [1, 2, 3, 4, 5.0], "image_std": [2.0]}, [1, 2, 3, 4, 5], [2] * 5),
        ({"image_std": [2.0]}, None, [2] * 5),
    ],
)
def test_fit__numbers_by_flags(flags, mean, std, tmp_path):
    images = scenes(3)
    made, _ = vision(saved(tmp_path / "images", images), **flags)
    expected = images.mean(axis=(0, 1, 2), dtype=np.float64) if mean is None else mean
    np.testing.assert_allclose(made.processor.image_mean, expected)
    assert made.processor.image_std == std


def test_fit__flags_that_cannot_be_used(tmp_path):
    root = saved(tmp_path / "images", scenes(2))
    with pytest.raises(ValueError, match="image_mean has 2 values, and images have 5 channels"):
        vision(root, image_mean=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"image_std=\[0.0\] must be above 0"):
        DataArguments(train_dir="a", image_std=[0.0])
    with pytest.raises(ValueError, match=r"image_mean=\[nan\] must be finite"):
        DataArguments(train_dir="a", image_mean=[float("nan")])


def test_fit__ordinary_images_keep_their_defaults_unless_flags_say_otherwise(tmp_path):
    root = saved(tmp_path / "images", scenes(3, 3, dtype=np.uint8), "png")
    made, rows = vision(root)
    assert made.encoder_defaults() == {}
    assert {*made.processor.image_mean, *made.processor.image_std} == {0.5}
    assert made.prepare(rows, "train", MASK)[0]["image"].mode == "RGB"
    made, _ = vision(root, image_mean=[0.1, 0.2, 0.3])
    assert made.processor.image_mean == [0.1, 0.2, 0.3]
    assert {*made.processor.image_std} == {0.5}


def test_fit__arrays_of_bytes_with_three_channels_are_ordinary_images(tmp_path):
    images = scenes(3, 3, dtype=np.uint8)
    made, rows = vision(saved(tmp_path / "images", images))
    assert {*made.processor.image_mean} == {0.5}
    np.testing.assert_array_equal(np.asarray(made.prepare(rows, "train", MASK)[1]["image"]), images[1])


def test_fit__grey_scans_keep_their_range(tmp_path):
    images = scenes(3, 1)
    made, rows = vision(saved(tmp_path / "images", images, "png"))
    assert made.encoder_defaults() == {"num_channels": 1}
    np.testing.assert_allclose(made.processor.image_mean, [images.mean()])
    np.testing.assert_array_equal(made.prepare(rows, "train", MASK)[1]["image"].values[..., 0], images[1])
    # An encoder of RGB reads them three times, scaled by what fits them, not by what it has for bytes.
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    encoder = new_encoder(3)
    encoder.save_pretrained(tmp_path)
    made, rows = vision(tmp_path / "images", encoder, tmp_path)
    np.testing.assert_allclose(made.processor.image_mean, [images.mean()] * 3)
    assert made.prepare(rows, "train", MASK)[1]["image"].values.shape == (16, 20, 3)


def test_fit__black_and_white_levels_give_bytes(tmp_path):
    root = saved(tmp_path / "images", scenes(3, 1), "png")
    made, rows = vision(root, black_level=800, white_level=1200)
    assert made.encoder_defaults() == {}
    image = made.prepare(rows, "train", MASK)[0]["image"]
    assert image.mode == "RGB"
    expected = np.rint((scenes(3, 1)[0].clip(800, 1200) - 800.0) / 400 * 255)
    np.testing.assert_array_equal(np.asarray(image)[..., 1], expected)
    assert made.processor.white_level == 1200


def test_fit__images_of_bytes_among_others_make_all_of_them_bytes(tmp_path):
    root = saved(tmp_path / "images", [*scenes(3, 1), *scenes(1, 1, dtype=np.uint8)], "png")
    made, rows = vision(root)
    images = [sample["image"] for sample in made.prepare(rows, "train", MASK)]
    assert [image.mode for image in images] == ["RGB"] * 4
    np.testing.assert_array_equal(np.asarray(images[3])[..., 0], scenes(1, 1, dtype=np.uint8)[0])


def test_fit__another_number_of_channels(tmp_path):
    root = saved(tmp_path / "images", scenes(2))
    message = r"000\.npy has 5 channels of more than 8 bits, and the encoder reads num_channels=3\. Give .*=5"
    with pytest.raises(ValueError, match=message):
        vision(root, new_encoder(3))
    rgb = saved(tmp_path / "rgb", scenes(2, 3, dtype=np.uint8), "png")
    with pytest.raises(ValueError, match=r"000\.png has 8-bit grey or RGB, and the encoder reads num_channels=5"):
        vision(rgb, new_encoder(5))


def test_fit__bytes_for_an_encoder_of_more_bits(tmp_path):
    made, _ = vision(saved(tmp_path / "images", scenes(2, 1), "png"))
    made.processor.save_pretrained(tmp_path)
    encoder = new_encoder(1)
    encoder.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"000\.png has 8-bit grey.*image processor scales 1 channel of"):
        vision(saved(tmp_path / "bytes", scenes(2, 1, dtype=np.uint8), "png"), encoder, tmp_path)


def test_prepare__other_channels_within_a_data_set_are_bad_rows(tmp_path, transformers_log):
    root = saved(tmp_path / "images", [*scenes(4), scenes(1, 4)[0], scenes(1, dtype=np.uint8)[0]])
    made, rows = vision(root, max_bad_fraction=0.5)
    assert len(made.prepare(rows, "train", MASK)) == 4
    assert "004.npy: ValueError: 4 channels of more than 8 bits, and the encoder reads 5" in transformers_log.text
    assert "005.npy: ValueError: 5 channels of 8 bits, and the encoder reads 5" in transformers_log.text


# Pixels


def processor_of(images, **settings):
    mean, std = (getattr(images, name)(axis=(0, 1, 2), dtype=np.float64).tolist() for name in ("mean", "std"))
    chosen = {"size": {"height": 16, "width": 16}, "rescale_factor": 1, "image_mean": mean, "image_std": std}
    return ViTImageProcessorPil(**chosen | {"resample": 3} | settings)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels__crops_are_right_for_any_depth(dtype):
    """Compared with torch's antialiased resizing of the same box, which differs from Pillow's at its edges."""
    ramp = np.linspace(0, 250, 40 * 60).reshape(40, 60, 1) * np.array([1, 0.5, 0.25, 0.1])
    image = (ramp if dtype == np.uint8 else ramp * 200).astype(dtype)
    pipeline = PixelPipeline(processor_of(image[None]))
    boxes, mirrored = np.array([[10, 5, 50, 37], [0, 0, 60, 40]]), np.array([False, True])
    whole = pipeline.cut([ArrayImage(image)] * 2, boxes, mirrored, normalised=False)
    assert whole.dtype == {np.uint8: torch.uint8, np.uint16: torch.uint16, np.float32: torch.float32}[dtype]
    ours = pipeline.cut([ArrayImage(image)] * 2, boxes, mirrored)
    for row, (left, top, right, bottom) in enumerate(boxes):
        part = torch.from_numpy(image[top:bottom, left:right].astype(np.float64)).permute(2, 0, 1)[None]
        resized = torch.nn.functional.interpolate(part, (16, 16), mode="bicubic", antialias=True)[0]
        resized = resized.flip(2) if mirrored[row] else resized
        numbers = pipeline.normalisation
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (numbers.mean, numbers.std))
        expected = ((resized - mean) / std).float()
        inner = (slice(None), slice(2, -2), slice(2, -2))
        tolerance = 0.1 if dtype == np.uint8 else 1e-3
        torch.testing.assert_close(ours[row][inner], expected[inner], rtol=0, atol=tolerance)


def test_pixels__far_from_zero_lose_no_digits():
    images = (30_000 + np.random.default_rng(0).integers(0, 4, (2, 16, 16, 2))).astype(np.uint16)
    processor = processor_of(images)
    theirs = processor(list(images), do_resize=False, input_data_format="channels_last", return_tensors="pt")
    ours = PixelPipeline(processor).plain([*map(ArrayImage, images)])
    torch.testing.assert_close(ours, theirs["pixel_values"].float(), rtol=1e-5, atol=1e-5)


def test_pixels__the_centre_as_clips_processor_has_it():
    images = scenes(1, 2, size=(30, 40))
    given = processor_of(images)
    settings = {"image_mean": given.image_mean, "image_std": given.image_std, "rescale_factor": 1, "resample": 2}
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16}, do_convert_rgb=False, **settings
    )
    ours = PixelPipeline(processor).plain([ArrayImage(images[0])])
    for channel in range(2):
        resized = Image.fromarray(images[0, ..., channel].astype(np.float32)).resize((24, 18), 2)
        part = np.asarray(resized)[1:17, 4:20]
        expected = (part.round() - given.image_mean[channel]) / given.image_std[channel]
        np.testing.assert_allclose(ours[0, channel], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_collator__finished_on_the_device_or_not(dtype):
    images = (scenes(3) / (1 if dtype != np.uint8 else 30)).astype(dtype)
    examples = [{"image": ArrayImage(values), "sample_index": number} for number, values in enumerate(images)]
    collator = DataCollatorForData2VecVision(processor_of(images), (2, 2), MASK, augment=RandomResizedCrop())
    expected = collator(examples)["pixel_values"]
    batch = collator.finished_on_device()(examples)
    assert batch["pixel_values"].dtype == {np.uint8: torch.uint8, np.uint16: torch.uint16}.get(dtype, torch.float32)
    assert torch.equal(batch.to("cpu")["pixel_values"], expected)
    assert expected.shape == (3, 5, 16, 16)
    assert expected.dtype == torch.float32
    boxes, mirrored = RandomResizedCrop().draw(np.array([[20, 16]] * 3), RowGenerators.for_samples(0, 0, range(3), 3))
    assert torch.equal(PixelPipeline(processor_of(images)).cut([*map(ArrayImage, images)], boxes, mirrored), expected)


# Clips and segmentation masks


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return {"bytes": buffer.getvalue(), "path": None}


def test_video__frames_that_are_arrays(tmp_path):
    clips = scenes(12).reshape(3, 4, 16, 20, 5)
    for clip in range(3):
        saved(tmp_path / str(clip), clips[clip])
    args = DataArguments(train_dir=str(tmp_path), modality="video")
    rows = load_raw_datasets(args, "video", validation=False)["train"]
    made = modality_class("video")(ModelArguments(model_type="videomae"), args, rows)
    assert made.encoder_defaults() == {"num_channels": 5}
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    made.fit(VideoMAEModel(VideoMAEConfig(image_size=16, patch_size=8, num_frames=4, num_channels=5, **size)))
    np.testing.assert_allclose(made.processor.image_mean, clips[:, 0].mean(axis=(0, 1, 2), dtype=np.float64))
    sample = made.prepare(rows, "train", MASK)[1]
    collator = made.collator(MASK, 1, 0, "mask_token")
    found = collator.plain([sample])["pixel_values"][0]
    assert found.shape == (4, 5, 16, 16)
    expected = collator._pixels._pixels.plain([ArrayImage(frame) for frame in clips[1]])
    assert torch.equal(found, expected)


def test_segmentation__arrays_with_masks_that_are_arrays():
    images = scenes(2)
    masks = np.random.default_rng(0).integers(0, 3, (2, 16, 20))
    columns = {"image": [*map(npy, images)], "label": [*map(npy, masks * 7)], "sample_index": [0, 1]}
    files = {"image": ImageFeature(decode=False), "label": ImageFeature(decode=False), "sample_index": Value("int64")}
    rows, args = Dataset.from_dict(columns, Features(files)), DataArguments(train_file="-")
    processor = processor_of(images)
    ArrayFormat(5, eight_bits=False).keep(processor)
    good = screen_masks(rows, args, "train", ignored=255)
    found = prepare_masked_images(good, args, "train", [0, 7, 14], (20, 16), processor)
    for number in range(2):
        np.testing.assert_array_equal(found[number]["image"].values, images[number])
        np.testing.assert_array_equal(np.asarray(found[number]["label"]), masks[number])
