"""Which settings are chosen, from looks at data of every size and devices of every kind."""

import math
from dataclasses import replace

import pytest

from modeling_data2vec_generic.choosing import constants
from modeling_data2vec_generic.choosing.choice import choose, too_few
from modeling_data2vec_generic.choosing.constants import KINDS, SIZES
from modeling_data2vec_generic.choosing.device import Device
from modeling_data2vec_generic.choosing.kinds.pictures import Sizes
from modeling_data2vec_generic.choosing.kinds.series import Windows
from modeling_data2vec_generic.choosing.kinds.speech import Recordings
from modeling_data2vec_generic.choosing.kinds.text import Text
from modeling_data2vec_generic.choosing.kinds.video import Clips
from modeling_data2vec_generic.choosing.kinds.vision import Images
from modeling_data2vec_generic.choosing.plan import scale_for
from modeling_data2vec_generic.choosing.tried import tried_with
from modeling_data2vec_generic.cli.recipes import recipe_called
from modeling_data2vec_generic.training.encoders import parse_overrides

pytestmark = pytest.mark.fast

GIB = 2**30
LAPTOP = Device(threads=8, cores=8)
H200 = Device("cuda", threads=8, cores=16, memory=139 * GIB, bf16=True, capability=9, name="NVIDIA H200")
EIGHT = replace(H200, processes=8, cores=128)
T4 = Device("cuda", threads=4, cores=4, memory=15 * GIB, bf16=False, capability=7, name="Tesla T4")

PHOTOS = Images("vision", 30_000, 1.0, Sizes(375, 200, 1024, is_grey=False))
SENTENCES = Text("text", 50_000, 25.0, [15.0, 25.0, 35.0, 45.0], has_labels=False, ends=0.9)
PROTEINS = Text("proteins", 20_000, 300.0, [100.0, 300.0, 500.0], has_labels=False, ends=0.0)
PROMPTS = Recordings("speech", 500, 3 / 3600, usual=2.5, covering=7.2)
WAVES = Windows("series", 300, 1.0, 427, 1)
CLIPS = Clips("video", 1500, 1.0, Sizes(64, 64, 64, is_grey=False), 12, 20.0)
LOOKS = {
    "vision": (PHOTOS, "vision"),
    "text": (SENTENCES, "text"),
    "proteins": (PROTEINS, "text"),
    "speech": (PROMPTS, "speech"),
    "series": (WAVES, "series"),
    "video": (CLIPS, "video"),
}


def values(seen, device=LAPTOP, evaluates=True, **given):
    modality = "text" if seen.kind == "proteins" else seen.kind
    return {name: found.value for name, found in choose(seen, device, given, modality, evaluates).items()}


def encoder(seen, device=LAPTOP, **given):
    return parse_overrides(values(seen, device, **given)["config_overrides"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", [LAPTOP, T4, EIGHT], ids=["cpu", "gpu", "8 gpus"])
def test_choice__has_a_reason_for_every_setting_and_is_the_same_each_time(kind, device):
    seen, modality = LOOKS[kind]
    chosen = choose(seen, device, {}, modality, True)
    assert chosen == choose(seen, device, {}, modality, True)
    for name, setting in chosen.items():
        assert setting.value is not None, name
        assert len(setting.reason) > 5, name
    needed = {"model_type", "config_overrides", "objective", "max_steps", "learning_rate", "ema_decay", "eval_steps"}
    assert needed <= chosen.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_choice__leaves_out_what_is_given(kind):
    seen, modality = LOOKS[kind]
    chosen = choose(seen, LAPTOP, {}, modality, True)
    for name, setting in chosen.items():
        assert name not in choose(seen, LAPTOP, {name: setting.value}, modality, True)


def test_encoder__grows_with_the_data_on_a_gpu_and_is_small_on_a_cpu():
    def blocks_and_width(rows, device):
        found = encoder(replace(PHOTOS, rows=rows), device)
        return found["num_hidden_layers"], found["hidden_size"]

    sizes = {rows: blocks_and_width(rows, EIGHT) for rows in (500, 3_000, 20_000, 500_000, 10_000_000)}
    assert list(sizes.values()) == [(SIZES[name].blocks, SIZES[name].width) for name in SIZES]
    assert {blocks_and_width(rows, LAPTOP) for rows in sizes} == {(4, 128)}
    assert blocks_and_width(10_000_000, H200) == (12, 768)  # one GPU is too slow for more
    assert blocks_and_width(10_000_000, T4) == (12, 384)  # and this has not enough memory for that
    assert blocks_and_width(10_000, replace(LAPTOP, threads=64)) == (6, 192)


@pytest.mark.parametrize(
    ("side", "device", "size", "patch"),
    [
        (8, LAPTOP, 8, 2),
        (28, LAPTOP, 28, 4),
        (32, LAPTOP, 32, 4),
        (64, LAPTOP, 64, 8),
        (100, LAPTOP, 96, 12),
        (3000, LAPTOP, 96, 12),
        (28, H200, 28, 2),
        (64, H200, 64, 4),
        (375, H200, 224, 14),
        (375, EIGHT, 224, 14),
    ],
)
def test_images__are_read_in_a_grid_that_the_device_bears(side, device, size, patch):
    found = encoder(Images("vision", 30_000, 1.0, Sizes(side, side, side, is_grey=False)), device)
    assert (found["image_size"], found["patch_size"]) == (size, patch)


def test_images__for_the_published_sizes_are_those_of_the_papers():
    seen, recipe = replace(PHOTOS, rows=1_281_167), recipe_called("vision/data2vec2_base").settings
    found, own = values(seen, EIGHT), encoder(seen, EIGHT)
    assert (own["image_size"], own["patch_size"]) == (224, 16)
    for name in ("objective", "num_masks", "mask_ratio", "average_top_k_layers", "learning_rate", "adam_beta2"):
        assert found[name] == recipe[name], name
    assert found["per_device_train_batch_size"] * 8 * found.get("gradient_accumulation_steps", 1) == 512


def test_images__that_are_small_and_grey_are_cropped_with_care_and_not_mirrored():
    digits = Images("vision", 1_437, 1.0, Sizes(8, 8, 8, is_grey=True))
    found = values(digits)
    assert (found["crop_scale_min"], found["horizontal_flip"], found["mask_strategy"]) == (0.6, False, "random")
    assert "mask_length" not in found  # of the blocks that the grid is too small for
    assert "crop_scale_min" not in values(PHOTOS)


def test_text__is_one_sequence_per_row_unless_rows_are_long_or_cut_off():
    assert values(SENTENCES)["line_by_line"] is True
    assert values(SENTENCES)["max_seq_length"] == 48
    assert values(SENTENCES)["train_sampling_strategy"] == "group_by_length"
    books = replace(SENTENCES, lengths=[2000.0, 3000.0], per_row=2500.0)
    wrapped = replace(SENTENCES, ends=0.2)
    for joined in (books, wrapped):
        found = values(joined)
        assert (found["line_by_line"], found["max_seq_length"]) == (False, 128)
        assert "train_sampling_strategy" not in found
    assert values(replace(wrapped, has_labels=True))["line_by_line"] is True
    assert "line_by_line" not in values(SENTENCES, packing=True)


def test_text__has_a_vocabulary_by_its_size_and_none_of_its_own_with_a_tokenizer():
    sizes = [values(replace(SENTENCES, rows=rows))["tokenizer_vocab_size"] for rows in (200, 4_000, 50_000)]
    assert sizes == [1024, 2048, 8192]
    assert "train_tokenizer" not in values(SENTENCES, processor_name="bert-base")
    assert encoder(SENTENCES, max_seq_length=64)["max_position_embeddings"] == 64


def test_text__for_hundreds_of_millions_of_tokens_is_the_published_model():
    seen = replace(SENTENCES, rows=20_000_000)
    found, own = values(seen, H200), encoder(seen, H200)
    recipe = recipe_called("text/data2vec_base").settings
    assert (found["model_type"], found["tokenizer_vocab_size"]) == ("data2vec-text", recipe["tokenizer_vocab_size"])
    assert own["max_position_embeddings"] == found["max_seq_length"] + 2


def test_proteins__have_no_tokenizer_of_their_own():
    found = values(PROTEINS)
    assert (found["model_type"], found["mask_strategy"], found["modality"]) == ("esm", "span", "text")
    assert "train_tokenizer" not in found
    assert encoder(PROTEINS)["max_position_embeddings"] == found["max_seq_length"] + 2


def test_speech__is_cut_to_what_nearly_all_have():
    assert values(PROMPTS)["max_duration_in_seconds"] == 5.0  # on a CPU
    assert values(replace(PROMPTS, covering=1.2))["max_duration_in_seconds"] == 2.0
    assert values(replace(PROMPTS, rows=200_000), H200)["max_duration_in_seconds"] == 8.0
    assert values(replace(PROMPTS, usual=0.4))["mask_length"] == 5
    assert encoder(replace(PROMPTS, rows=200_000), H200)["conv_dim"] == [512] * 7


@pytest.mark.parametrize(
    ("length", "patch", "masks"),
    [(427, 7, 4), (100, 2, 4), (24, 1, 2), (9, 1, None), (512, 8, 4)],
)
def test_series__have_some_fifty_positions(length, patch, masks):
    seen = replace(WAVES, length=length)
    assert (encoder(seen)["patch_length"], values(seen).get("mask_length")) == (patch, masks)


def test_clips__have_an_even_number_of_frames_that_all_have():
    assert encoder(CLIPS)["num_frames"] == 8
    assert encoder(replace(CLIPS, frames=5))["num_frames"] == 4
    assert encoder(replace(CLIPS, rows=200_000, frames=40), H200)["num_frames"] == 16


def test_batch__is_a_part_of_few_data():
    for rows, batch in ((40, 16), (150, 16), (30_000, 32)):
        assert values(replace(PHOTOS, rows=rows))["per_device_train_batch_size"] == batch


def test_batch__that_is_given_changes_learning_rate_and_steps():
    usual, larger = values(PHOTOS), values(PHOTOS, per_device_train_batch_size=128)
    assert larger["learning_rate"] == pytest.approx(2 * usual["learning_rate"])
    assert larger["max_steps"] == pytest.approx(usual["max_steps"] / 4, rel=0.1)
    accumulated = values(PHOTOS, per_device_train_batch_size=32, gradient_accumulation_steps=4)
    assert accumulated["learning_rate"] == larger["learning_rate"]
    tokens = values(SENTENCES, max_tokens_per_batch=64 * 27)
    assert "per_device_train_batch_size" not in tokens
    assert tokens["learning_rate"] == values(SENTENCES)["learning_rate"]


def test_batch__is_shared_by_processes_and_accumulated_where_memory_is_small():
    seen = replace(PHOTOS, rows=1_281_167)
    for device in (H200, EIGHT, replace(H200, memory=24 * GIB), replace(EIGHT, memory=40 * GIB)):
        found = values(seen, device)
        accumulated = found.get("gradient_accumulation_steps", 1)
        assert found["per_device_train_batch_size"] * accumulated * device.processes == 512
        assert found["learning_rate"] == 1e-3
    assert values(seen, replace(H200, memory=24 * GIB))["gradient_accumulation_steps"] > 2


def test_steps__are_bounded_by_time_passes_and_what_was_tried():
    assert values(replace(PHOTOS, rows=100))["max_steps"] == 2_500  # 400 passes in batches of 16
    quick = replace(LAPTOP, threads=15)
    small = Images("vision", 60_000, 1.0, Sizes(28, 28, 28, is_grey=True))
    assert values(small, quick)["max_steps"] == tried_with("vision", "tiny").most_steps
    assert values(PHOTOS, Device())["max_steps"] < values(PHOTOS)["max_steps"]
    assert values(replace(CLIPS, frames=8), Device(threads=1))["max_steps"] >= constants.FEWEST_STEPS


def test_steps__that_are_given_decide_about_the_teacher():
    for steps, decays in ((500, (0.99, 0.999)), (5_000, (0.99, 0.9995)), (375_300, (0.9998, 0.99999))):
        found = values(PHOTOS, max_steps=steps)
        assert (found["ema_decay"], found["ema_end_decay"]) == decays
        assert "max_steps" not in found
    found = values(PHOTOS, num_train_epochs=1.0)  # 938 steps
    assert found["ema_end_decay"] == 0.999
    assert "max_steps" not in found


def test_teacher__of_a_short_run_on_text_is_quicker_with_the_objective_of_the_recipe():
    for steps, given, decays in (
        (5_000, {}, (0.9, 0.99)),
        (5_000, {"objective": "data2vec2"}, (0.9, 0.99)),
        (5_000, {"objective": "data2vec"}, (0.99, 0.9995)),
        (5_001, {}, (0.99, 0.9995)),
    ):
        found = values(SENTENCES, max_steps=steps, **given)
        assert (found["ema_decay"], found["ema_end_decay"]) == decays


def test_teacher__rises_whatever_is_given():
    assert values(PHOTOS, ema_decay=0.99995)["ema_end_decay"] == 0.99995
    assert values(PHOTOS, ema_end_decay=0.9)["ema_decay"] == 0.9
    assert "ema_end_decay" not in values(PHOTOS, ema_decay=0.0, ema_end_decay=1.0)


def test_objective__that_is_given_has_its_own_masks():
    found = values(PHOTOS, objective="data2vec")
    assert not {"num_masks", "mask_strategy", "mask_ratio", "decoder_layers"} & found.keys()
    found = values(PHOTOS, mask_strategy="random")
    assert not {"mask_ratio", "mask_length", "mask_adjust"} & found.keys()
    assert found["num_masks"] == 4


def test_looks__fit_what_is_there():
    assert "eval_strategy" not in values(PHOTOS, evaluates=False)
    assert "eval_steps" not in values(PHOTOS, eval_strategy="epoch")
    assert "save_steps" not in values(PHOTOS, save_strategy="no")
    assert values(PHOTOS)["save_steps"] == values(PHOTOS)["eval_steps"] == 0.2
    long = replace(PHOTOS, rows=1_281_167)
    assert values(long, H200)["save_steps"] > 1  # every half hour of a day
    assert values(long, H200, load_best_model_at_end=True)["save_steps"] == values(long, H200)["eval_steps"]


def test_device__gives_precision_and_workers():
    assert values(PHOTOS, H200)["bf16"] is True
    assert values(PHOTOS, H200)["dataloader_num_workers"] == 8
    assert not {"bf16", "dataloader_num_workers"} & values(PHOTOS, LAPTOP).keys()
    assert "bf16" not in values(PHOTOS, T4)
    assert "bf16" not in values(PHOTOS, H200, fp16=True)
    assert values(PHOTOS, T4)["dataloader_num_workers"] == 3


def test_stream__counts_what_its_steps_read():
    stream = replace(PHOTOS, rows=None)
    assert scale_for(stream, H200, {"max_steps": 200}).name == "medium"
    assert scale_for(stream, H200, {"max_steps": 100_000}).name == "base"
    assert values(stream, H200, max_steps=100_000)["learning_rate"] == 1e-3


def test_few_rows__are_warned_of():
    assert "There are 150 training images" in too_few(replace(PHOTOS, rows=150))
    assert too_few(replace(PHOTOS, rows=200)) == too_few(replace(PHOTOS, rows=None)) == ""


def test_constants__name_sizes_and_recipes_that_there_are():
    for name, kind in KINDS.items():
        assert {"tiny", *kind.thresholds} == set(kind.training), name
        assert list(kind.thresholds.values()) == sorted(kind.thresholds.values())
        assert math.inf in kind.teacher
        for size, training in kind.training.items():
            assert training.teacher is None or math.inf in training.teacher
            assert size in SIZES
            assert tried_with(name, size).batch >= 1
