"""Semantic segmentation: masks that fit their images, metrics, saved files, and errors."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image
from transformers import (
    AutoModelForSemanticSegmentation,
    BeitForSemanticSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerModel,
    ViTImageProcessorPil,
    pipeline,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForSemanticSegmentation
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.finetuning.labels.single_label import SingleLabel
from modeling_data2vec_generic.finetuning.metrics import load_metric
from modeling_data2vec_generic.finetuning.tasks.image_segmentation import ImageSegmentation, TrainingMasks
from modeling_data2vec_generic.modalities.vision.images import decode_image
from modeling_data2vec_generic.modalities.vision.pixels import PixelPipeline, RandomResizedCrop
from modeling_data2vec_generic.modalities.vision.segmentation_labels import (
    ignored_value,
    inspect_masks,
    prepare_masked_images,
    screen_masks,
)

from ...tiny import tiny_encoder
from ...tiny_encoders import TINY

pytestmark = pytest.mark.usefixtures("own_cache")

VALUES = (0, 3, 7)  # of the classes
LEVELS = (40, 130, 220)  # brightness of each
INSTANCES = np.arange(6 * 256, dtype=np.int32).reshape(6, 16, 16)  # masks of as many values as pixels


def masked_pictures(count: int, size: tuple[int, int] = (16, 16)) -> list[tuple[PIL.Image.Image, PIL.Image.Image]]:
    """Images that are dark, with two rectangles of two levels of brightness, and masks of these."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        places = np.zeros(size[::-1], dtype=np.int64)
        for number in (1, 2):
            top, left = rng.integers(0, 9), rng.integers(0, 9)
            places[top : top + 8, left : left + 8] = number
        levels = np.array(LEVELS)[places][..., None] + rng.integers(0, 20, (*places.shape, 3))
        mask = np.array(VALUES)[places].astype(np.uint8)
        pairs.append((PIL.Image.fromarray(levels.astype(np.uint8)), PIL.Image.fromarray(mask)))
    return pairs


def encoded(image: PIL.Image.Image | None) -> dict[str, Any] | None:
    if image is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, "tiff" if image.mode == "I" else "png")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(pairs: list[Any]) -> Dataset:
    columns = {name: [encoded(pair[place]) for pair in pairs] for place, name in enumerate(("image", "label"))}
    return Dataset.from_dict(columns, Features({"image": Image(), "label": Image()}))


def undecoded(pairs: list[Any]) -> Dataset:
    """As they come out of the sources."""
    data = rows(pairs)
    for name in ("image", "label"):
        data = data.cast_column(name, Image(decode=False))
    return data.add_column("sample_index", list(range(len(pairs))))


# --- masks


@pytest.mark.parametrize("mode", ["L", "P", "I", "I;16", "1"])
def test_masks__of_any_mode_are_numbered_by_their_values(mode):
    values = np.array([[0, 1, 1, 0], [1, 1, 0, 255]]) * (1 if mode != "1" else 255)
    values = values.clip(0, 255)
    if mode == "P":
        mask = PIL.Image.fromarray(values.astype(np.uint8), "P")
        mask.putpalette([250, 0, 0, 0, 250, 0] + [9] * 762)  # colours say nothing
    elif mode == "1":
        mask = PIL.Image.fromarray(values.astype(np.uint8)).convert("1")
    else:
        mask = PIL.Image.fromarray(values.astype({"L": np.uint8, "I": np.int32, "I;16": np.uint16}[mode]))
    assert mask.mode == mode
    args = DataArguments(train_file="-")
    data = screen_masks(undecoded([(PIL.Image.new("RGB", (4, 2)), mask)]), args, "train", ignored=255)
    assert data["values"][:] == [[0, 1]]
    (sample,) = prepare_masked_images(data, args, "train", [0, 1], (4, 2))
    expected = [[0, 1, 1, 0], [1, 1, 0, 1 if mode == "1" else 255]]
    assert np.asarray(sample["label"]).tolist() == expected
    assert sample["image"].mode == "RGB"


def test_masks__that_are_of_no_use_are_named(caplog):
    good = masked_pictures(1)[0]
    nothing = PIL.Image.fromarray(np.full((16, 16), 255, dtype=np.uint8))
    speck = PIL.Image.fromarray(np.where(np.arange(256) == 17, 3, 255).astype(np.uint8).reshape(16, 16))
    colours = good[1].convert("RGB")
    masks = [good[1], None, colours, nothing, good[1].crop((0, 0, 16, 12)), speck]
    args = DataArguments(train_file="-", max_bad_fraction=0.9)
    data = screen_masks(undecoded([(good[0], mask) for mask in masks]), args, "train", ignored=255)
    assert data["sample_index"][:] == [0, 4, 5]
    assert "3 of 6 train masks are bad (row 1: no mask; row 2: ValueError: mode RGB" in caplog.text
    assert "row 3: all pixels are 255" in caplog.text
    samples = prepare_masked_images(data, args, "train", list(VALUES), (4, 4))
    assert [sample["sample_index"] for sample in samples] == [0]
    assert "row 4: 16 x 12 pixels, and the image has 16 x 16" in caplog.text
    assert "row 5: no pixel has a class at 4 x 4 pixels" in caplog.text


def of_values(*values):
    return PIL.Image.fromarray(np.resize(np.array(values, dtype=np.uint8), (4, 4)))


@pytest.mark.parametrize(
    ("masks", "ignored", "expected"),
    [
        ([of_values(0), of_values(255), of_values(0, 255)], 255, None),
        ([of_values(0, 255)], 0, 0),
        ([of_values(0, 255), of_values(1)], 255, 255),
        ([of_values(255)], 255, 255),
        ([of_values(0)], 255, 255),
    ],
)
def test_ignored__of_0_and_255_alone_nothing(masks, ignored, expected):
    args = DataArguments(train_file="-")
    picture = PIL.Image.new("RGB", (4, 4))
    found = inspect_masks(undecoded([(picture, mask) for mask in masks]), args, "train")
    assert ignored_value({"train": found}, ignored) == expected


def test_ignored__pixels_are_noted(caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    picture = PIL.Image.new("RGB", (4, 4))
    raw = undecoded([(picture, of_values(0, 128, 255)), (picture, of_values(0, 128))])
    assert screen_masks(raw, DataArguments(train_file="-"), "train", 255)["values"][:] == [[0, 128]] * 2
    assert "Pixels of 255 are ignored, which 1 of 2 masks have." in caplog.text


def stored(image, orientation):
    """A file whose EXIF data say how it is to be turned, of pixels that are stored as they are."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "png", exif=exif)
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.mark.parametrize("size", [(4, 2), (4, 4)])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mask_stored", ["as the picture", "with its own", "upright"])
def test_masks__lie_as_their_pictures_do(mask_stored, orientation, size, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    rng = np.random.default_rng(0)
    places = PIL.Image.fromarray(rng.permutation(size[0] * size[1]).astype(np.uint8).reshape(size[::-1]) % 7)
    picture = stored(places, orientation)
    if mask_stored == "with its own":
        mask = picture
    elif mask_stored == "as the picture":
        mask = encoded(places)
    elif orientation < 5 or size == (4, 4):
        return  # its size would not tell
    else:
        mask = encoded(decode_image(picture).getchannel(0))
    columns = {"image": [picture], "label": [mask]}
    raw = Dataset.from_dict(columns, Features({name: Image(decode=False) for name in columns}))
    raw = raw.add_column("sample_index", [0])
    (sample,) = prepare_masked_images(raw, DataArguments(train_file="-"), "train", list(range(7)), (8, 8))
    assert np.array_equal(np.asarray(sample["image"])[..., 0], np.asarray(sample["label"]))
    turned = mask_stored == "as the picture" and orientation > 1
    assert ("1 of 1 masks are turned with their pictures" in caplog.text) == turned


def test_crops__are_the_same_of_image_and_mask():
    """The mask can be told from the image: of each pixel it is the level of brightness."""
    places = np.zeros((40, 60), dtype=np.uint8)
    places[10:30, 20:50] = 1
    image = PIL.Image.fromarray(np.stack([places * 200] * 3, axis=-1))
    examples = [{"image": image, "label": PIL.Image.fromarray(places), "sample_index": i} for i in range(32)]
    processor = ViTImageProcessorPil(size={"height": 20, "width": 20}, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    collator = TrainingMasks(PixelPipeline(processor), RandomResizedCrop(0.1), seed=0)
    batch = collator(examples)
    assert batch["labels"].dtype == torch.uint8
    bright = batch["pixel_values"][:, 0] * 255 > 100
    agree = (bright == batch["labels"].bool()).float().mean((1, 2))
    assert agree.min() > 0.93  # at the rim, pixels are in between
    assert len({tuple(label.flatten().tolist()) for label in batch["labels"]}) > 16
    again = collator(examples[5:7])
    assert torch.equal(again["labels"], batch["labels"][5:7])
    collator.set_epoch(1)
    assert not torch.equal(collator(examples)["labels"], batch["labels"])


def test_crops__always_show_a_pixel_with_a_class():
    values = np.full((40, 40), 255, dtype=np.uint8)
    values[:20, :20] = 1
    image = PIL.Image.fromarray(np.stack([np.where(values == 1, 200, 0).astype(np.uint8)] * 3, axis=-1))
    examples = [{"image": image, "label": PIL.Image.fromarray(values), "sample_index": i} for i in range(32)]
    processor = ViTImageProcessorPil(size={"height": 10, "width": 10}, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    batch = TrainingMasks(PixelPipeline(processor), RandomResizedCrop(0.05, 0.1), seed=0)(examples)
    bright = batch["pixel_values"][:, 0] * 255 > 100
    assert (bright == (batch["labels"] == 1)).float().mean((1, 2)).min() > 0.85
    shown = (batch["labels"] != 255).flatten(1).sum(1)
    assert shown.min() >= 1
    assert 0 < (shown == 25).sum() < 32  # the corner of the whole image


# --- metrics


def test_mean_iou__is_counted_over_all_images():
    references = [0, 0, 1, 1, 1, 1, 2, 255]
    predictions = [0, 1, 1, 1, 1, 0, 1, 2]
    # Of class 0: 1 found, 3 of it or taken for it; of class 1: 3 of 6; of class 2: none of 1; class 3 is nowhere.
    given = {"predictions": predictions, "references": references, "num_labels": 4, "ignore_index": 255}
    result = load_metric("mean_iou").compute(**given)
    assert result["mean_iou"] == pytest.approx((1 / 3 + 3 / 6 + 0) / 3)
    assert result["overall_accuracy"] == pytest.approx(4 / 7)
    assert result["mean_accuracy"] == pytest.approx((1 / 2 + 3 / 4 + 0) / 3)
    np.testing.assert_allclose(result["per_category_iou"], [1 / 3, 3 / 6, 0, np.nan])
    counted = given | {"references": [0, 0, 1, 1, 2], "predictions": [0, 1, 1, 0, 1]}
    weighted = load_metric("mean_iou").compute(**counted, sample_weight=np.array([1, 1, 3, 1, 1]))
    np.testing.assert_equal(weighted, result)


# --- heads


@pytest.mark.parametrize(
    "model_type", ["vit", "dinov3_vit", "yolos", "swin", "convnextv2", "clip_vision_model", "vit_mae"]
)
def test_own_head__reads_the_patches_of_any_encoder(model_type):
    tiny = TINY[model_type]
    torch.manual_seed(0)
    config = Data2VecGenericConfig(encoder_config=tiny.config(), num_labels=3)
    model = Data2VecGenericForSemanticSegmentation(config).eval()
    inputs = tiny.inputs()
    labels = torch.full((2, *inputs["pixel_values"].shape[-2:]), 255)
    labels[:, 0] = 2
    with torch.no_grad():
        output = model(**inputs, labels=labels)
        in_order = {"noise": torch.arange(float(tiny.length)).expand(2, -1)} if model_type == "vit_mae" else {}
        hidden = model.encoder(**inputs, **in_order)[0]
    if hidden.ndim == 4:
        hidden = hidden.flatten(2).transpose(1, 2)
    patches = hidden[:, tiny.prefix : tiny.prefix + tiny.length]
    logits = output.logits
    assert logits.shape[:2] == (2, 3)
    torch.testing.assert_close(logits.flatten(2).transpose(1, 2), model.classifier(patches))
    height, width = inputs["pixel_values"].shape[-2:]
    assert logits.shape[2] * width == logits.shape[3] * height  # square patches
    upsampled = torch.nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
    torch.testing.assert_close(output.loss, -upsampled.log_softmax(1)[:, 2, 0].mean())


# --- the script


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    for name, changes in (("vit", {}), ("beit", {"num_hidden_layers": 4})):
        tiny_encoder(name, **changes).save_pretrained(folder / name)
    tiny_encoder("beit").save_pretrained(folder / "beit2")
    square = {"image_size": (16, 12), "num_hidden_layers": 4}
    tiny_encoder("data2vec-vision", **square).save_pretrained(folder / "d2v")
    stages = {
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [4, 4, 8, 8],
        "num_attention_heads": [1] * 4,
        "sr_ratios": [1] * 4,
    }
    SegformerModel(SegformerConfig(**stages, decoder_hidden_size=8)).save_pretrained(folder / "segformer")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "segformer")
    pairs = masked_pictures(36)
    tables = {
        "masks": pairs,
        "other": [(image, mask.point(lambda value: 9)) for image, mask in pairs[:6]],
        "0_255": [(image, mask.point(lambda value: value and 255)) for image, mask in pairs],
        "rgb": [(image, mask if i % 3 else mask.convert("RGB")) for i, (image, mask) in enumerate(pairs)],
        "instances": [(image, PIL.Image.fromarray(each)) for (image, _), each in zip(pairs, INSTANCES, strict=False)],
    }
    for name, table in tables.items():
        rows(table).to_parquet(folder / f"{name}.parquet")
    numbers = rows(pairs).remove_columns("label").add_column("label", [i % 3 for i in range(len(pairs))])
    numbers.to_parquet(folder / "numbers.parquet")
    return folder


VIT = "--task image-segmentation --model_name_or_path DATA/vit --train_file DATA/masks.parquet".split()


def results(output_dir: Path) -> dict[str, float]:
    return json.loads((output_dir / "all_results.json").read_text())


def predictions(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


def by_pipeline(segment: Any, image: PIL.Image.Image) -> np.ndarray:
    """(H, W) values of the classes."""
    found = np.full(image.size[::-1], -1)
    for entry in segment(image):
        found[np.asarray(entry["mask"]) > 0] = int(entry["label"])
    assert found.min() >= 0
    return found


def test_masks__are_learned_and_the_pipeline_gives_them(finetune):
    """ViT has no head for it in transformers."""
    flags = ["--learning_rate", "3e-2", "--layer_decay", "1", "--logging_steps", "50", "--crop_scale_min", "0.6"]
    out = finetune(*VIT, *flags, "--per_device_train_batch_size", "8", steps=80, figures=True)
    assert results(out)["eval_mean_iou"] > 0.6
    model = AutoModelForSemanticSegmentation.from_pretrained(out)
    assert type(model) is Data2VecGenericForSemanticSegmentation
    assert model.config.id2label == {0: "0", 1: "3", 2: "7"}
    segment, pairs = pipeline("image-segmentation", model=str(out)), masked_pictures(36)
    right = {value: np.zeros(2) for value in VALUES}
    for row in predictions(out):
        image, mask = pairs[row["id"]]
        found, true = by_pipeline(segment, image), np.asarray(mask)
        assert row["accuracy"] == pytest.approx((found == true).mean())
        for value in VALUES:
            both, either = ((found == value) & (true == value)).sum(), ((found == value) | (true == value)).sum()
            assert row["iou"].get(str(value), 0.0) == pytest.approx(both / max(either, 1))
            right[value] += (both, either)
    for value, (both, either) in right.items():
        assert results(out)[f"eval_iou_{value}"] == pytest.approx(both / either)
    assert {path.name for path in (out / "figures").iterdir()} == {"confusion.png", "errors.png"}
    saved_code = get_class_from_dynamic_module(model.config.auto_map["AutoModelForSemanticSegmentation"], out)
    pixels = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = model.eval()(pixels).logits
        torch.testing.assert_close(saved_code.from_pretrained(out).eval()(pixels).logits, expected)


@pytest.mark.parametrize(
    ("encoder", "head"), [("beit", BeitForSemanticSegmentation), ("segformer", SegformerForSemanticSegmentation)]
)
def test_head_of_transformers__where_there_is_one(encoder, head, finetune):
    flags = ["--train_file", "DATA/masks.parquet", "--max_train_samples", "21"]  # which tell the task
    out = finetune("--model_name_or_path", f"DATA/{encoder}", *flags, steps=6)  # the last batch is of one image
    model, info = AutoModelForSemanticSegmentation.from_pretrained(out, output_loading_info=True)
    assert type(model) is head
    assert not info["missing_keys"]
    assert encoder != "beit" or model.config.out_indices == [1, 2, 3, 4]
    row = predictions(out)[0]
    image, mask = masked_pictures(36)[row["id"]]
    found = by_pipeline(pipeline("image-segmentation", model=str(out)), image)
    assert row["accuracy"] == pytest.approx((found == np.asarray(mask)).mean())


def test_compare__is_from_scratch_and_finetuned(finetune):
    out = finetune(*VIT, "--compare", "--label_fraction", "0.5")
    assert list(json.loads((out / "comparison.json").read_text())) == ["from_scratch", "finetuned"]


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ([*VIT, "--train_file", "DATA/rgb.parquet"], ["12 of 36 train masks are bad", "mode RGB", "one channel"]),
        ([*VIT, "--train_file", "DATA/instances.parquet"], ["1535 different values", "instances"]),
        ([*VIT, "--validation_file", "DATA/other.parquet"], ["1 classes that the training data lack (9)"]),
        ([*VIT, "--train_file", "DATA/numbers.parquet"], ["label_column_name='label' holds Value('int64')", "paths"]),
        ([*VIT, "--linear_probe"], ["--linear_probe is not possible with image-segmentation"]),
        ([*VIT, "--pooling", "mean"], ["pooling='mean'", "not image-segmentation"]),
        ([*VIT, "--labels_per_class", "2"], ["labels_per_class is for one class per row"]),
        ([*VIT, "--mixup", "0.5"], ["mixup=0.5"]),
        ([*VIT, "--label_smoothing_factor", "0.1"], ["label_smoothing_factor=0.1"]),
        ([*VIT, "--model_name_or_path", "DATA/beit2"], ["reads four blocks, and this encoder has 2"]),
        (
            [*VIT, "--model_name_or_path", "DATA/d2v"],
            ["SemanticSegmentation can't read the training samples"],
        ),
    ],
)
def test_bad_input__is_one_clear_message(flags, parts, finetune):
    with pytest.raises(ValueError, match=r"\w") as caught:
        finetune(*flags)
    for part in parts:
        assert part in str(caught.value)


def test_table__of_paths(finetune, data):
    table = []
    for number, (image, mask) in enumerate(masked_pictures(9)):
        names = {"photo": f"photos/{number}.png", "annotation": f"annotations/{number}.png"}
        for name, each in zip(names.values(), (image, mask), strict=True):
            (data / name).parent.mkdir(exist_ok=True)
            each.save(data / name)
        table.append(names)
    (data / "paths.jsonl").write_text("\n".join(json.dumps(row) for row in table))
    flags = ["--model_name_or_path", "DATA/vit", "--train_file", "DATA/paths.jsonl", "--task", "image-segmentation"]
    out = finetune(*flags, "--image_column_name", "photo", "--label_column_name", "annotation")
    assert len(predictions(out)) == 3


@pytest.mark.parametrize("flags", [[], ["--semantic_loss_ignore_index", "-1"]])
def test_masks__of_0_and_255_are_of_two_classes(finetune, caplog, flags):
    out = finetune(*VIT, "--train_file", "DATA/0_255.parquet", *flags)
    assert ("two classes, and no pixel is ignored" in caplog.text) == (not flags)
    assert set(results(out)) >= {"eval_iou_0", "eval_iou_255"}


def test_metrics__keep_one_matrix_however_many_images_there_are():
    task = object.__new__(ImageSegmentation)
    task.classes, task.target = list(range(150)), SingleLabel()
    task.target.names = [str(number) for number in task.classes]
    rng = np.random.default_rng(0)
    labels, predicted = (rng.integers(0, 150, (100, 8, 8), dtype=np.uint8) for _ in range(2))
    kept = [part.numpy() for part in task.kept(torch.from_numpy(predicted), torch.from_numpy(labels))]
    tracemalloc.start()
    found = task.metrics(*kept)
    rows = task.predictions(*kept, Dataset.from_dict({"sample_index": range(100)}))
    mean = np.mean([row["accuracy"] for row in rows])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["overall_accuracy"] == pytest.approx((labels == predicted).mean())
    assert mean == pytest.approx(found["overall_accuracy"])
    assert peak < 40 * 150 * 150 * 8  # of a hundred images


def test_kept__is_as_large_for_large_images_as_for_small_ones():
    task = object.__new__(ImageSegmentation)
    task.classes = list(range(3))
    labels = torch.tensor([[[0, 0, 1], [2, 2, 255]], [[1, 1, 1], [1, 255, 255]]], dtype=torch.uint8)
    answers = torch.tensor([[[0, 2, 1], [2, 2, 0]], [[0, 1, 1], [0, 0, 1]]], dtype=torch.uint8)
    for scale in (1, 10):
        predicted, true = task.kept(*(part.repeat(1, scale, scale) for part in (answers, labels)))
        assert true.tolist() == [[0, 0, 1, 2], [1, 1, -100, -100]]
        assert predicted[..., 0].tolist() == [[0, 2, 1, 2], [0, 1, -100, -100]]
        pixels = predicted[..., 1]
        assert (pixels[pixels != -100] / scale**2).tolist() == [1, 1, 1, 2, 2, 2]


def test_evaluation__holds_no_pixels_but_those_of_the_worst_images(finetune, monkeypatch):
    """Evaluation is in the order of the rows, even where training is not."""
    held, figures = [], []
    metrics = ImageSegmentation.metrics

    def measured(task, logits, labels):
        held.append((logits.size + labels.size) / len(labels))
        return metrics(task, logits, labels)

    monkeypatch.setattr(ImageSegmentation, "metrics", measured)
    monkeypatch.setattr(
        "modeling_data2vec_generic.figures.predictions.plot_masks",
        lambda titles, images, masks, predicted, *_: figures.append((titles, masks, predicted)),
    )
    flags = ["--eval_strategy", "steps", "--eval_steps", "1", "--train_sampling_strategy", "group_by_length"]
    out = finetune(*VIT, *flags, figures=True)
    assert len(held) > 1
    assert max(held) <= 3 * len(VALUES) ** 2  # of 256 pixels
    ((titles, masks, predicted),) = figures
    right = [float((mask == answer).mean()) for mask, answer in zip(masks, predicted, strict=True)]
    assert right == pytest.approx(sorted(row["accuracy"] for row in predictions(out))[:4])
    assert titles == [f"{share:.0%} of the pixels are right" for share in right]
