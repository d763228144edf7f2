import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    VideoMAEImageProcessorPil,
    ViTImageProcessor,
    Wav2Vec2FeatureExtractor,
)

from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities.series.collator import DataCollatorForData2VecSeries
from modeling_data2vec_generic.modalities.speech.collator import DataCollatorForData2VecSpeech
from modeling_data2vec_generic.modalities.text.collator import DataCollatorForData2VecText
from modeling_data2vec_generic.modalities.video.collator import DataCollatorForData2VecVideo
from modeling_data2vec_generic.modalities.vision.collator import DataCollatorForData2VecVision
from modeling_data2vec_generic.modalities.vision.pixels import RandomResizedCrop

pytestmark = pytest.mark.fast

VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"] + [f"w{i}" for i in range(95)]


def make_tokenizer(**special):
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokens = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokens = {name: token for name, token in {**tokens, "unk_token": "[UNK]", **special}.items() if token}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


def text_examples(lengths, first=0):
    rng = np.random.default_rng(0)
    return [
        {
            "sample_index": first + i,
            "input_ids": [1, *rng.integers(5, 100, length).tolist(), 2],
            "special_tokens_mask": [1, *[0] * length, 1],
            "label": 3,
        }
        for i, length in enumerate(lengths)
    ]


def image_examples(count):
    rng = np.random.default_rng(0)
    return [
        {"sample_index": i, "image": Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)), "label": 1}
        for i in range(count)
    ]


def speech_examples(lengths):
    rng = np.random.default_rng(0)
    return [
        {"sample_index": i, "audio": rng.normal(0.3, 2.0, length).astype(np.float32)}
        for i, length in enumerate(lengths)
    ]


def num_frames(samples):
    return (samples - 40) // 20 + 1


def vision(**changes):
    processor = ViTImageProcessor(size={"height": 24, "width": 32})
    sampler = MaskSampler("inverse_block", 0.7, length=2)
    return DataCollatorForData2VecVision(processor, **{"grid": (3, 4), "mask": sampler, **changes})


def text(tokenizer=None, **changes):
    return DataCollatorForData2VecText(
        tokenizer or make_tokenizer(), **{"mask": MaskSampler("random", 0.4), **changes}
    )


def speech(feature_extractor=None, **changes):
    sampler = MaskSampler("span", 0.5, length=4)
    extractor = feature_extractor or Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return DataCollatorForData2VecSpeech(extractor, num_frames, **{"mask": sampler, **changes})


def series(**changes):
    sampler = MaskSampler("block", 0.5, length=2)
    return DataCollatorForData2VecSeries(**{"grid": (3, 6), "mask": sampler, **changes})


def series_examples(count):
    rng = np.random.default_rng(0)
    return [{"sample_index": i, "series": rng.normal(size=(24, 3)).astype(np.float32)} for i in range(count)]


def video(processor=None, **changes):
    processor = processor or VideoMAEImageProcessorPil(size={"height": 12, "width": 16}, do_center_crop=False)
    sampler = MaskSampler("inverse_block", 0.7, length=2)
    return DataCollatorForData2VecVideo(processor, **{"grid": (2, 3, 4), "mask": sampler, **changes})


def video_examples(count):
    frames = image_examples(4 * count)
    return [
        {"sample_index": i, "video": [frame["image"] for frame in frames[4 * i : 4 * i + 4]]} for i in range(count)
    ]


CASES = {
    "vision": (vision(num_masks=3, augment=RandomResizedCrop()), image_examples(12)),
    "text": (text(num_masks=3), text_examples([9, 14, 5, 30, 30, 11, 8, 21, 6, 7, 19, 9])),
    "speech": (speech(num_masks=3), speech_examples([900, 500, 700, 900, 640, 333, 900, 808, 450, 460, 470, 480])),
    "series": (series(num_masks=3), series_examples(12)),
    "video": (video(num_masks=3, augment=RandomResizedCrop()), video_examples(12)),
}


def tensors(batch):
    return {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def by_sample(batches, examples):
    """By sample index, all tensors of its row, without padding."""
    rows = {}
    for indices, batch in batches:
        for row, index in enumerate(indices):
            example = examples[index]
            kept = {}
            for name, values in tensors(batch).items():
                if name == "mask" and "audio" in example:
                    kept[name] = values[row][..., : num_frames(len(example["audio"]))]
                elif "input_ids" not in example and "audio" not in example:
                    kept[name] = values[row]
                else:
                    kept[name] = values[row][..., : len(example.get("input_ids", example.get("audio")))]
            rows[index] = kept
    return rows


def assert_same_rows(one, other):
    assert one.keys() == other.keys()
    for index, row in one.items():
        for name, values in row.items():
            torch.testing.assert_close(values, other[index][name], rtol=0, atol=0, msg=f"sample {index}, {name}")


class WithIndices:
    """Collates, and adds the numbers of the samples to the batch."""

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, examples):
        return [example["sample_index"] for example in examples], self.collator(examples)


# --- all collators ---


@pytest.mark.parametrize("modality", CASES)
def test_batches__seed_changes_masks(modality):
    collator, examples = CASES[modality]
    other = type(collator)(**{**{f: getattr(collator, f) for f in collator.__dataclass_fields__}, "seed": 1})
    assert (collator(examples)["mask"] != other(examples)["mask"]).any()


@pytest.mark.parametrize("modality", CASES)
def test_for_evaluation__is_fixed_in_every_training_epoch(modality):
    collator, examples = CASES[modality]
    evaluation = collator.for_evaluation()
    before = evaluation(examples)
    collator.set_epoch(7)
    after = evaluation(examples)
    collator.set_epoch(0)
    assert evaluation.epoch == 0
    for name, values in tensors(before).items():
        torch.testing.assert_close(values, after[name], rtol=0, atol=0)
    for name, values in collator.plain(examples).items():
        torch.testing.assert_close(before[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("modality", CASES)
def test_batches__hold_the_positions_of_their_mask(modality):
    collator, examples = CASES[modality]
    batch = collator(examples)
    positions, masks = batch["mask_positions"], batch["mask"].numpy()
    assert positions.shape == masks.shape
    assert positions.masked.tolist() == np.flatnonzero(masks).tolist()
    if modality == "text":
        real = batch["attention_mask"].bool().numpy()
    elif modality == "speech":
        real = np.array([np.arange(masks.shape[2]) < num_frames(len(example["audio"])) for example in examples])
    else:
        assert positions.real is None
        real = np.ones_like(masks[:, 0])
    assert positions.real is None or (positions.real.numpy() == real).all()
    visible = [np.flatnonzero(kept) for kept in (~masks & real[:, None]).reshape(-1, masks.shape[2])]
    width = max(map(len, visible))
    padding = np.repeat(real, masks.shape[1], axis=0).argmin(axis=1)
    lacking = [padding for kept, padding in zip(visible, padding, strict=True) if len(kept) < width]
    if all(lacking):  # a row that is full has its first padding at 0
        filled = [[*kept, *[padding] * (width - len(kept))] for kept, padding in zip(visible, padding, strict=True)]
        assert positions.visible.tolist() == np.array(filled).tolist()
    else:
        assert positions.visible is None


@pytest.mark.parametrize("make", [text, speech])
def test_batches__say_if_nothing_is_padded(make):
    examples = text_examples([9, 9]) if make is text else speech_examples([700, 700])
    assert make()(examples)["mask_positions"].real is None


@pytest.mark.parametrize("modality", CASES)
def test_batches__need_sample_index(modality):
    collator, examples = CASES[modality]
    with pytest.raises(ValueError, match="without sample_index.*with_indices=True"):
        collator([{name: value for name, value in examples[0].items() if name != "sample_index"}])


@pytest.mark.parametrize("make", [vision, text, speech])
def test_collators__need_one_mask_at_least(make):
    with pytest.raises(ValueError, match="num_masks=0"):
        make(num_masks=0)


# --- images ---


def test_vision__shapes_and_exact_counts():
    batch = vision(num_masks=3, augment=RandomResizedCrop())(image_examples(5))
    assert set(batch) == {"pixel_values", "mask", "mask_positions"}
    assert batch["pixel_values"].shape == (5, 3, 24, 32)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["mask"].shape == (5, 3, 12)
    assert batch["mask"].dtype == torch.bool
    assert set(batch["mask"].sum(dim=2).flatten().tolist()) == {12 - int(12 * (1 - 0.7))}


def test_vision__without_augment_equals_the_image_processor():
    collator, examples = vision(), image_examples(4)
    expected = collator.image_processor([example["image"] for example in examples], return_tensors="pt")
    torch.testing.assert_close(collator(examples)["pixel_values"], expected["pixel_values"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        collator.plain(examples)["pixel_values"], expected["pixel_values"], rtol=1e-5, atol=1e-5
    )


def test_vision__crops_do_not_move_masks():
    examples = image_examples(6)
    plain, augmented = vision()(examples), vision(augment=RandomResizedCrop())(examples)
    torch.testing.assert_close(plain["mask"], augmented["mask"])
    assert (plain["pixel_values"] != augmented["pixel_values"]).any()


def test_vision__a_mask_that_cannot_be_drawn_fails_at_construction():
    with pytest.raises(ValueError, match="cannot mask 4 positions"):
        vision(grid=(2, 2), mask=MaskSampler("random", 0.9))


# --- text ---


def test_text__shapes_padding_and_special_tokens():
    lengths = [9, 14, 5, 30]
    examples = text_examples(lengths)
    batch = text(num_masks=4)(examples)
    assert set(batch) == {"input_ids", "attention_mask", "mask", "mask_positions", "student_input_ids"}
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, 32)
    assert batch["mask"].shape == batch["student_input_ids"].shape == (4, 4, 32)
    assert {values.dtype for name, values in tensors(batch).items() if name != "mask"} == {torch.int64}
    for row, length in enumerate(lengths):
        tokens = batch["input_ids"][row]
        assert tokens[: length + 2].tolist() == examples[row]["input_ids"]
        assert (tokens[length + 2 :] == 0).all()
        assert batch["attention_mask"][row].sum() == length + 2
        mask = batch["mask"][row]
        assert not mask[:, 0].any()
        assert not mask[:, length + 1 :].any()
        assert set(mask.sum(dim=1).tolist()) == {length - int(length * (1 - 0.4))}


def test_text__special_tokens_inside_are_never_masked():
    example = text_examples([20])[0]
    for place in (7, 8, 14):
        example["input_ids"][place] = 2
        example["special_tokens_mask"][place] = 1
    masks = text(num_masks=200)([example])["mask"]
    assert not masks[0, :, [0, 7, 8, 14, 21]].any()
    assert masks[0].any(dim=0).sum() == 17


def test_text__left_padding_is_never_masked():
    batch = text(make_tokenizer(padding_side="left"), num_masks=50)(text_examples([4, 20]))
    assert not batch["mask"][0, :, :17].any()
    assert not batch["mask"][0, :, -1].any()
    assert batch["mask"][0].any(dim=0)[17:21].all()


def test_text__left_padding_changes_no_masks_or_replaced_tokens():
    collator = text(make_tokenizer(padding_side="left"), num_masks=5)
    examples = text_examples([9, 40])
    alone, padded = collator(examples[:1]), collator(examples)
    for name, values in tensors(alone).items():
        torch.testing.assert_close(padded[name][:1, ..., -11:], values)


def test_text__student_reads_masked_tokens_replaced_and_all_others_unchanged():
    batch = text(num_masks=8, mask=MaskSampler("random", 0.5))(text_examples([200] * 40))
    original = batch["input_ids"][:, None].expand_as(batch["mask"])
    student, mask = batch["student_input_ids"], batch["mask"]
    assert (student[~mask] == original[~mask]).all()
    read, were = student[mask], original[mask]
    bound = 5 * (0.25 / len(read)) ** 0.5
    assert abs((read == 3).float().mean() - 0.8) < bound
    assert abs((read == were).float().mean() - 0.1 - 0.1 / 95) < bound
    random_tokens = read[(read != 3) & (read != were)]
    assert random_tokens.min() == 5
    assert random_tokens.max() == 99


def test_text__random_tokens_spare_added_special_tokens():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<page>"]})
    tokenizer.add_tokens(["new"])
    vocabulary = text(tokenizer)._vocabulary
    assert vocabulary.tolist() == [*range(5, 100), tokenizer.convert_tokens_to_ids("new")]


def test_text__masks_of_one_sample_differ_in_their_random_tokens():
    batch = text(num_masks=2, mask=MaskSampler("random", 0.9))(text_examples([300]))
    both = batch["mask"][0].all(dim=0)
    assert (batch["student_input_ids"][0, 0] != batch["student_input_ids"][0, 1])[both].any()


def test_text__without_student_tokens_no_mask_token_is_needed():
    batch = text(make_tokenizer(mask_token=None), student_tokens=False)(text_examples([9, 12]))
    assert "student_input_ids" not in batch


def test_text__plain_and_multiples():
    collator, examples = text(pad_to_multiple_of=8), text_examples([9, 12])
    assert collator(examples)["mask"].shape == (2, 1, 16)
    plain = collator.plain(examples)
    assert set(plain) == {"input_ids", "attention_mask"}
    assert plain["input_ids"].shape == (2, 16)


@pytest.mark.parametrize("missing", ["pad_token", "mask_token"])
def test_text__tokenizer_without_a_token_it_needs(missing):
    with pytest.raises(ValueError, match=f"{missing} is not set in"):
        text(make_tokenizer(**{missing: None}))


def test_text__too_short_a_text_is_named():
    with pytest.raises(ValueError, match="sample_index=41 has 2 positions"):
        text(mask=MaskSampler("span", 0.3, length=4))(text_examples([20, 2], first=40))


# --- sound ---


@pytest.mark.parametrize("own_setting", [True, False])
def test_speech__normalises_pads_and_never_masks_padded_frames(own_setting):
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=own_setting, do_normalize=True, padding_value=0.0)
    lengths = [900, 500, 641]
    batch = speech(extractor, num_masks=40)(speech_examples(lengths))
    assert set(batch) == {"input_values", "attention_mask", "mask", "mask_positions"}
    assert batch["input_values"].shape == batch["attention_mask"].shape == (3, 900)
    assert batch["input_values"].dtype == torch.float32
    assert batch["attention_mask"].dtype == torch.int64
    assert batch["mask"].shape == (3, 40, num_frames(900))
    for row, length in enumerate(lengths):
        waveform = batch["input_values"][row]
        torch.testing.assert_close(waveform[:length].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(waveform[:length].var(unbiased=False), torch.tensor(1.0), atol=1e-4, rtol=0)
        assert (waveform[length:] == 0).all()
        assert batch["attention_mask"][row].sum() == length
        frames = num_frames(length)
        assert not batch["mask"][row, :, frames:].any()
        assert batch["mask"][row, :, :frames].any(dim=0).all()


def test_speech__without_normalisation_the_waveform_is_unchanged():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, padding_value=-1.0)
    examples = speech_examples([900, 500])
    values = speech(extractor)(examples)["input_values"]
    np.testing.assert_array_equal(values[1, :500], examples[1]["audio"])
    assert (values[1, 500:] == -1.0).all()


def test_speech__too_short_a_clip_is_named():
    with pytest.raises(ValueError, match="sample_index=1 has 4 positions that may be masked.*span of 4"):
        speech()(speech_examples([900, 100]))


def test_speech__left_padding_is_refused():
    with pytest.raises(ValueError, match="padding_side='left'.*Set padding_side='right'"):
        speech(Wav2Vec2FeatureExtractor(padding_side="left"))


# --- series ---


def test_series__shapes_and_values():
    examples = series_examples(2)
    batch = series(num_masks=4)(examples)
    assert batch["past_values"].shape == (2, 24, 3)
    assert batch["past_values"].dtype == torch.float32
    np.testing.assert_array_equal(batch["past_values"][1].numpy(), examples[1]["series"])
    assert batch["mask"].shape == (2, 4, 18)
    assert batch["mask"].dtype == torch.bool


def test_series__every_channel_is_masked_by_itself_at_the_same_ratio():
    mask = series(num_masks=5)(series_examples(8))["mask"].unflatten(2, (3, 6))
    assert (mask.sum(3) == 3).all()
    assert (mask[:, :, 0] != mask[:, :, 1]).any()
    assert (mask[:, 0] != mask[:, 1]).any()


def test_series__a_mask_that_no_channel_can_have_is_refused():
    with pytest.raises(ValueError, match="a span of 6 leaves nothing visible"):
        series(mask=MaskSampler("span", 0.5, length=6))


# --- video ---


@pytest.mark.parametrize(
    "processor",
    [
        VideoMAEImageProcessorPil(size={"height": 12, "width": 16}, do_center_crop=False),
        VideoMAEImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 12, "width": 16}),
        ViTImageProcessor(size={"height": 12, "width": 16}),
    ],
    ids=["resized", "cut to the centre", "of images"],
)
def test_video__plain_gives_what_the_processor_gives(processor):
    examples = video_examples(3)
    pixels = video(processor).plain(examples)["pixel_values"]
    assert pixels.shape == (3, 4, 3, 12, 16)
    for row, example in zip(pixels, examples, strict=True):
        expected = processor(example["video"], return_tensors="pt")["pixel_values"].reshape(4, 3, 12, 16)
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)


def test_video__masks_are_tubes():
    mask = video(num_masks=3)(video_examples(4))["mask"].unflatten(2, (2, 12))
    assert (mask[:, :, 0] == mask[:, :, 1]).all()
    assert (mask[:, :, 0].sum(2) == 9).all()  # 3 of 12 stay visible
    assert (mask[:, 0] != mask[:, 1]).any()


def test_video__all_frames_of_a_clip_are_cropped_alike_and_clips_differently():
    frame = image_examples(1)[0]["image"]
    examples = [{"sample_index": i, "video": [frame] * 4} for i in range(6)]
    collator = video(augment=RandomResizedCrop(scale_min=0.2))
    pixels = collator(examples)["pixel_values"]
    assert (pixels == pixels[:, :1]).all()
    assert len({row.numpy().tobytes() for row in pixels[:, 0]}) == 6
    assert (
        collator.for_evaluation()(examples)["pixel_values"][0] == collator.plain(examples)["pixel_values"][0]
    ).all()
