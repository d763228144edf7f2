"""All images become 8-bit RGB, and bad ones are found before training."""

import io
import os
import pickle
import struct
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as PictureFeature
from torch.utils.data import DataLoader
from transformers import ViTImageProcessorPil

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality.reading import Unreadable
from modeling_data2vec_generic.data.quality.screening import screened_together
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.modalities.vision import images
from modeling_data2vec_generic.modalities.vision.images import decode_image, prepare_images, to_rgb
from modeling_data2vec_generic.versions import AutoImageProcessor

pytestmark = pytest.mark.fast


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG"} | options))
    return {"bytes": buffer.getvalue(), "path": None}


def folder_of(tmp_path, good, bad=()):
    """Makes a folder of `good` readable images (0.png, ...) and of files with the bytes in `bad` (bad_0.png, ...)."""
    root = tmp_path / "images"
    root.mkdir()
    for number in range(good):
        PIL.Image.new("L", (4, 4), number).save(root / f"{number:03d}.png")
    for number, content in enumerate(bad):
        (root / f"bad_{number}.png").write_bytes(content)
    return root


def prepared(root, **flags):
    args = DataArguments(train_dir=str(root), **flags)
    return prepare_images(load_raw_datasets(args, "vision", validation=False)["train"], args, "train")


MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa", "La"]
MODES += ["I;16", "I;16B", "I;16L"]


@pytest.mark.parametrize("mode", MODES)
def test_to_rgb__any_mode_of_pillow(mode):
    image = to_rgb(PIL.Image.new(mode, (3, 2)))
    assert (image.mode, image.size) == ("RGB", (3, 2))


def test_to_rgb__sixteen_bits_are_scaled_not_clipped():
    levels = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    image = decode_image(encoded(PIL.Image.fromarray(levels)))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 128, 255]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 25700, 65535]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 0.4, 1.0]], dtype=np.float32), [0, 102, 255]),
        (np.array([[-1.0, 102, 255]], dtype=np.float32), [0, 103, 255]),
        (np.array([[273.0, 293, 313]], dtype=np.float32), [0, 128, 255]),
    ],
)
def test_to_rgb__alone_from_its_smallest_to_its_largest_value(levels, expected):
    assert np.asarray(to_rgb(PIL.Image.fromarray(levels)))[0, :, 1].tolist() == expected


def test_to_rgb__transparent_is_white_and_half_transparent_a_mixture():
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    image = np.asarray(to_rgb(PIL.Image.fromarray(pixels, "RGBA")))[0]
    assert image[:2].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert abs(int(image[2, 0]) - 127) <= 1


def test_to_rgb__palette_with_transparent_colour():
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), 1)
    decoded = decode_image(encoded(image, transparency=0))
    assert np.asarray(decoded)[0].tolist() == [[255, 255, 255], [10, 20, 30]]


def test_decode_image__turned_as_its_exif_says():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert decode_image(encoded(PIL.Image.new("RGB", (4, 2)), exif=exif)).size == (2, 4)


def test_prepare_images__rows(tmp_path):
    dataset = prepared(folder_of(tmp_path, 3))
    row = dataset[2]
    assert sorted(row) == ["image", "sample_index"]
    assert (row["image"].mode, row["image"].getpixel((0, 0)), row["sample_index"]) == ("RGB", (2, 2, 2), 2)


def test_prepare_images__labels_are_read_without_decoding(tmp_path, monkeypatch):
    args = DataArguments(dataset_name="digits", max_train_samples=20)
    dataset = prepare_images(load_raw_datasets(args, "vision")["train"], args, "train")

    def fail(value):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("modeling_data2vec_generic.modalities.vision.images.decode_image", fail)
    labels = dataset.with_format(None)["label"][:]
    assert len(set(labels)) > 5
    assert dataset.select_columns("label")[:] == {"label": labels}


def broken_images():
    whole = encoded(PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)))["bytes"]
    return {"truncated": whole[: len(whole) // 2], "no image": b"hello", "empty": b""}


@pytest.mark.parametrize("kind", ["truncated", "no image", "empty"])
def test_prepare_images__broken_ones_are_skipped_and_named(tmp_path, transformers_log, kind):
    dataset = prepared(folder_of(tmp_path, 19, [broken_images()[kind]]))
    assert len(dataset) == 19
    assert "1 of 20 train images are bad" in transformers_log.text
    assert "bad_0.png: " in transformers_log.text
    assert [dataset[position]["image"].getpixel((0, 0))[0] for position in range(19)] == list(range(19))
    assert dataset["sample_index"][:] == list(range(19))


@pytest.mark.parametrize(("good", "bad", "fails"), [(18, 2, False), (17, 3, True)])
def test_prepare_images__more_than_a_tenth_fails(tmp_path, good, bad, fails):
    root = folder_of(tmp_path, good, [b"broken"] * bad)
    if not fails:
        assert len(prepared(root)) == good
        return
    with pytest.raises(ValueError, match=r"3 of 20 train images are bad .*max_bad_fraction=0.1.*--max_bad_fraction"):
        prepared(root)
    assert len(prepared(root, max_bad_fraction=0.2)) == good


def test_prepare_images__only_the_first_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"bad_4\.png: .*; and 3 more\)"):
        prepared(folder_of(tmp_path, 2, [b"broken"] * 8))


def test_prepare_images__nothing_left(tmp_path):
    with pytest.raises(ValueError, match="nothing is left to use"):
        prepared(folder_of(tmp_path, 0, [b"broken"]), max_bad_fraction=1.0)


def test_prepare_images__missing_values_are_bad(tmp_path):
    images = [encoded(PIL.Image.new("L", (2, 2)))] * 9 + [None]
    Dataset.from_dict({"image": images}).to_parquet(tmp_path / "a.parquet")
    args = DataArguments(train_file=str(tmp_path / "a.parquet"), modality="vision", max_bad_fraction=0.05)
    with pytest.raises(ValueError, match=r"1 of 10 train images are bad \(row 9: no image\)"):
        prepare_images(load_raw_datasets(args, "vision", validation=False)["train"], args, "train")


def test_prepare_images__check_is_not_repeated_for_unchanged_files(tmp_path):
    root = folder_of(tmp_path, 3)
    prepared(root)
    before = sorted((tmp_path / "cache").rglob("*.arrow"))
    prepared(root)
    assert before
    assert sorted((tmp_path / "cache").rglob("*.arrow")) == before


def indices_and_brightness(examples):
    return [(example["sample_index"], example["image"].getpixel((0, 0))[0]) for example in examples]


def test_prepare_images__a_file_that_was_replaced_is_checked_again(tmp_path):
    root = folder_of(tmp_path, 3)
    assert len(prepared(root)) == 3
    (root / "001.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"001\.png: "):
        prepared(root)


def test_prepare_images__checked_and_read_by_several_processes(tmp_path):
    dataset = pickle.loads(pickle.dumps(prepared(folder_of(tmp_path, 12), preprocessing_num_workers=2)))
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=indices_and_brightness)
    assert [pair for batch in loader for pair in batch] == [(number, number) for number in range(12)]


# --- malicious input


def png(width, height, pixels=b"", extra=b""):
    """A PNG file of grey pixels whose header states this size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"title\0\0" + extra) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


def with_size(kind, place, form, width, height):
    """A small file of this kind whose header states another size."""
    content = bytearray(encoded(PIL.Image.new("RGB", (16, 16)).convert("P"), format=kind)["bytes"])
    struct.pack_into(form, content, place, width, height)
    return bytes(content)


def tiff_of(width, height):
    image = encoded(PIL.Image.new("L", (16, 16)), format="TIFF")["bytes"]
    for tag, size in ((256, width), (257, height)):  # width and height are entries of the directory: tag, type, count
        entry = struct.pack("<HH", tag, 4)
        image = image.replace(entry + struct.pack("<II", 1, 16), entry + struct.pack("<II", 1, size))
    return image


BOMBS = {
    "above the limit at which Pillow only warns": lambda: png(10_000, 10_000, bytes(10_001) * 10_000),
    "a PNG of billions": lambda: png(2**31 - 1, 2**31 - 1),
    "100,000 x 1": lambda: png(100_000, 1, bytes(100_001)),
    "1 x 100,000": lambda: png(1, 100_000, bytes(2) * 100_000),
    "a GIF's header": lambda: with_size("GIF", 6, "<HH", 65_535, 65_535),
    "a BMP's header": lambda: with_size("BMP", 18, "<ii", 2**31 - 1, 2**31 - 1),
    "a TIFF's header": lambda: tiff_of(2**31 - 1, 2**31 - 1),
    "a PPM's header": lambda: b"P6 99999999 99999999 255\n123",
    "compressed text": lambda: png(4, 4, bytes(20), extra=zlib.compress(bytes(1 << 26), 9)),
    "EPS, which Pillow gives to Ghostscript": lambda: encoded(PIL.Image.new("RGB", (8, 8)), format="EPS")["bytes"],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_prepare_images__what_would_take_much_memory_is_skipped(kind, tmp_path, transformers_log, little_memory):
    root = folder_of(tmp_path, 19, [BOMBS[kind]()])
    with little_memory(1 << 30):
        assert len(prepared(root)) == 19
    assert "1 of 20 train images are bad" in transformers_log.text
    assert "bad_0.png: " in transformers_log.text


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_decode_image__reads_the_first_of_many_frames_only(kind, monkeypatch):
    frames = [PIL.Image.new("RGB", (8, 8), (number % 256, 0, 255)) for number in range(1000)]
    content = encoded(frames[0], format=kind, save_all=True, append_images=frames[1:])

    def fail(self, frame):
        raise AssertionError("went on to another frame")

    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.seek", fail)
    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.seek", fail)
    assert decode_image(content).getpixel((0, 0))[2] > 250


def test_prepare_images__a_long_image_that_is_still_one(tmp_path):
    root = folder_of(tmp_path, 9)
    PIL.Image.new("L", (8000, 40)).save(root / "long.png")
    assert len(prepared(root)) == 10


def test_prepare_images__the_limit_of_pixels_is_pillows(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 15)
    with pytest.raises(ValueError, match=r"4 x 4 pixels are more than the 15 of PIL\.Image\.MAX_IMAGE_PIXELS"):
        prepared(folder_of(tmp_path, 2))


def test_load_folder__links_that_lead_in_circles_are_followed_once(tmp_path):
    root = folder_of(tmp_path, 3)
    for name in ("a", "b"):  # the links form 2 ** 40 paths before the system refuses one
        (root / name).symlink_to(root)
    assert len(prepared(root)) == 3


def test_load_folder__names_that_are_not_text_are_left_out_and_named(tmp_path, transformers_log):
    root = folder_of(tmp_path, 3)
    PIL.Image.new("L", (4, 4)).save(os.fsencode(root) + b"/\xff.png")
    assert len(prepared(root)) == 3
    assert "1 file" in transformers_log.text
    assert r"\xff.png" in transformers_log.text


def test_decode_image__starts_no_other_program(monkeypatch):
    content = encoded(PIL.Image.new("RGB", (8, 8)), format="EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args: pytest.fail("Ghostscript was called"))
    with pytest.raises(PIL.UnidentifiedImageError):
        decode_image(content)


# More than 8 bits


def floats_of(root, levels):
    """Makes a folder of float images of 4 x 4 pixels, one for each (smallest, largest) in `levels`."""
    for number, (low, high) in enumerate(levels):
        root.mkdir(exist_ok=True)
        values = np.linspace(low, high, 16, dtype=np.float32).reshape(4, 4)
        PIL.Image.fromarray(values).save(root / f"{number}.tif")
    return root


def greys(row):
    grey = np.asarray(row["image"])[..., 0]
    return int(grey.min()), int(grey.max())


def test_to_rgb__one_pixel_beyond_changes_little():
    values = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    beyond = values.copy()
    beyond[-1, -1] = 1.001
    means = [np.asarray(to_rgb(PIL.Image.fromarray(image))).mean() for image in (values, beyond)]
    assert abs(means[0] - means[1]) < 1


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_to_rgb__of_one_value_is_black(value):
    assert greys({"image": to_rgb(PIL.Image.fromarray(np.full((4, 4), value, dtype=np.float32)))}) == (0, 0)


def test_prepare_images__one_range_for_all_of_them(tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    dataset = prepared(floats_of(tmp_path / "kelvin", [(273, 293), (293, 313), (273, 313)]))
    assert [greys(row) for row in dataset] == [(0, 128), (128, 255), (0, 255)]
    assert "3 of 3 images have more than 8 bits per pixel, with values from 273 to 313: 273 becomes black and 313" in (
        caplog.text
    )


def test_prepare_images__a_dead_pixel_does_not_darken_the_others(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    levels = np.linspace(0, 4095, 1600).astype(np.uint16).reshape(40, 40)
    levels[7, 7] = 65535
    PIL.Image.fromarray(levels).save(root / "0.png")
    assert np.median(np.asarray(prepared(root)[0]["image"])) == pytest.approx(127, abs=2)


def test_prepare_images__a_few_bright_pixels_on_nothing_are_the_picture(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    stars = np.zeros((40, 40), dtype=np.uint16)
    stars[3, 3] = 800
    PIL.Image.fromarray(stars).save(root / "0.png")
    assert greys(prepared(root)[0]) == (0, 255)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"white_level": 2000.0}, (0, 128)),
        ({"black_level": -1000.0, "white_level": 1000.0}, (128, 255)),
    ],
)
def test_prepare_images__levels_by_flags(flags, expected, tmp_path):
    assert greys(prepared(floats_of(tmp_path / "images", [(0, 1000)]), **flags)[0]) == expected


def test_prepare_images__levels_upside_down(tmp_path):
    with pytest.raises(ValueError, match=r"black_level=1000 is not below white_level=500; .* from 1000 to 2000"):
        prepared(floats_of(tmp_path / "images", [(1000, 2000)]), white_level=500.0)
    with pytest.raises(ValueError, match="black_level=2.0 must be below white_level=1.0"):
        DataArguments(train_dir="images", black_level=2.0, white_level=1.0)


def test_prepare_images__the_processor_keeps_the_range_for_further_data(tmp_path):
    processor = ViTImageProcessorPil()
    train, validation = (
        DataArguments(train_dir=str(floats_of(tmp_path / name, [levels])))
        for name, levels in (("train", (0, 1000)), ("validation", (0, 500)))
    )
    for args, expected in ((train, (0, 255)), (validation, (0, 128))):
        raw = load_raw_datasets(args, "vision", validation=False)["train"]
        assert greys(prepare_images(raw, args, "train", processor)[0]) == expected
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert (loaded.black_level, loaded.white_level) == (0.0, 1000.0)
    assert greys(prepare_images(raw, validation, "train", loaded)[0]) == (0, 128)


def test_prepare_images__eight_bits_need_no_range(tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    processor = ViTImageProcessorPil()
    args = DataArguments(train_dir=str(folder_of(tmp_path, 3)))
    prepare_images(load_raw_datasets(args, "vision", validation=False)["train"], args, "train", processor)
    assert not hasattr(processor, "white_level")
    assert "8 bits" not in caplog.text


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_prepare_images__further_pages_are_counted(kind, tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    root = folder_of(tmp_path, 3)
    pages = [PIL.Image.new("L", (4, 4), level) for level in (0, 100)]
    pages[0].save(root / f"stack.{kind.lower()}", save_all=True, append_images=pages[1:])
    prepared(root)
    assert "1 of 4 images hold several pages or frames, of which only the first is read" in caplog.text


def test_prepare_images__colours_of_sixteen_bits_are_scaled_by_levels(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    (root / "deep.png").write_bytes(imagecodecs.png_encode(np.uint16([[[0, 1000, 500], [250, 2000, 0]]])))
    pixels = np.asarray(prepared(root, black_level=0, white_level=1000)[0]["image"])
    assert pixels.tolist() == [[[0, 255, 128], [64, 255, 0]]]


def many_images(count, bad=()):
    """Rows in memory, of which those in `bad` are broken."""
    files = [encoded(PIL.Image.new("L", (4, 4), number % 256)) for number in range(count)]
    for number in bad:
        files[number] = {"bytes": b"broken", "path": f"{number}.png"}
    features = Features({"image": PictureFeature(decode=False), "sample_index": Value("int64")})
    return Dataset.from_dict({"image": files, "sample_index": range(count)}, features=features)


def test_prepare_images__looks_at_no_more_than_256_images(monkeypatch, transformers_log):
    looked_at = []
    examine = images.examine_image
    monkeypatch.setattr(images, "examine_image", lambda value, *how: looked_at.append(value) or examine(value, *how))
    raw = many_images(1000, bad=range(0, 1000, 20))
    args = DataArguments(train_file="a.parquet")
    dataset = prepare_images(raw, args, "train")
    assert len(looked_at) == 256
    number = sum(value["path"] is not None for value in looked_at)
    assert f"{number} of the 256 train images looked at first, out of 1000, are bad" in transformers_log.text
    assert len(dataset) == 1000  # bad ones are replaced when they are read
    assert {type(dataset[position]["image"]) for position in range(0, 1000, 20)} == {Unreadable}
    assert str(dataset[40]["image"]).startswith("UnidentifiedImageError")
    assert dataset[40]["image"].path == "40.png"

    chosen = [value["bytes"] for value in looked_at]
    looked_at.clear()
    prepare_images(many_images(1000, bad=range(0, 1000, 20)), args, "train")
    assert [value["bytes"] for value in looked_at] == chosen

    looked_at.clear()
    everything = DataArguments(train_file="a.parquet", check_data=True)
    assert len(prepare_images(raw, everything, "train")) == 950
    assert len(looked_at) == 1000


def test_prepare_images__too_many_bad_ones_among_those_looked_at_are_an_error():
    args = DataArguments(train_file="a.parquet")
    wrong = many_images(1000, bad=range(0, 1000, 5))
    with (
        screened_together({"train": wrong, "validation": many_images(10)}),
        pytest.raises(ValueError, match="of the 256 train images looked at first, out of 1000, are bad.*max_bad_frac"),
    ):
        prepare_images(wrong, args, "train")
    assert len(prepare_images(wrong, replace(args, max_bad_fraction=0.3), "train")) == 1000
