"""Speech recognition by CTC: transcripts in, characters out, and what stops it."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModelForCTC, AutoProcessor, Wav2Vec2Processor, pipeline

import run_finetune
from modeling_data2vec_generic.finetuning.transcripts import (
    frames_needed,
    new_tokenizer,
    normalized,
    read_frames,
    read_labels,
)

from ..tiny import new_encoder, run_flags

pytestmark = pytest.mark.usefixtures("own_cache")

PITCHES = {"a": 300, "b": 1200, "c": 3000}
RATE = 16000


def sung(text: str, seconds: float = 0.08) -> np.ndarray:
    """A tone that swells and fades for each letter, silence for a space."""
    times = np.arange(int(seconds * RATE)) / RATE
    swell = np.sin(np.pi * times / seconds)
    notes = [swell * np.sin(2 * np.pi * PITCHES.get(letter, 0) * times) for letter in text]
    return (0.3 * np.concatenate(notes) + 0.01 * np.random.default_rng(0).normal(size=len(text) * len(times))).astype(
        np.float32
    )


def sung_rows(folder: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """A wav file for each text, named by its number, and rows with path and transcript."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.wav", sung(text), RATE)
    return [{"audio": str(folder / f"{number}.wav"), "text": text} for number, text in enumerate(texts)]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips in `songs.jsonl`, transcripts in capitals with a full stop, and a tiny encoder."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    words = [["".join(rng.choice(list("abc"), size)) for size in (2 + i % 3, 2)] for i in range(48)]
    rows = sung_rows(folder / "wav", [" ".join(pair) for pair in words])
    write_jsonl(folder / "songs.jsonl", [row | {"text": f"{row['text'].upper()}."} for row in rows])
    torch.manual_seed(0)
    new_encoder("data2vec-audio").save_pretrained(folder / "encoder")
    return folder


OWN = "--task ctc --validation_split_percentage 25 --chars_to_ignore .".split()


def finetune(data: Path, output_dir: Path, *flags: str, steps: int = 2) -> Path:
    source = [] if "--train_file" in flags else ["--train_file", str(data / "songs.jsonl")]
    encoder = ["--model_name_or_path", str(data / "encoder")]
    run_finetune.main([*run_flags(output_dir, steps), *OWN, *encoder, *source, *flags])
    return output_dir


LEARNING = (
    "--learning_rate 1e-2 --freeze_encoder_steps 0 --freeze_convolutions false --mask_time_prob 0 "
    "--mask_feature_prob 0 --per_device_train_batch_size 12"
).split()


@pytest.fixture(scope="module")
def learnt(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        return finetune(data, tmp_path_factory.mktemp("learnt"), *LEARNING, steps=100)


def results(output_dir: Path) -> dict[str, float]:
    return json.loads((output_dir / "all_results.json").read_text())


def predictions(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


# --- transcripts


def test_normalized__lower_case_single_spaces_and_no_ignored_characters():
    assert normalized("  It's\t10 | o'Clock!?\n", ["!", "'?"], lower_case=True) == "its 10 oclock"
    assert normalized("A.", ["."], lower_case=False) == "A"
    assert normalized(None, [], lower_case=True) == normalized("..", ["."], lower_case=True) == ""


def test_tokenizer__has_the_characters_in_order_and_writes_them_back():
    tokenizer = new_tokenizer(["ba č", "ab"])
    assert tokenizer.get_vocab() == {"a": 0, "b": 1, "č": 2, "|": 3, "[UNK]": 4, "[PAD]": 5}
    labels = tokenizer("ab čab")["input_ids"]
    assert labels == [0, 1, 3, 2, 0, 1]
    assert read_labels(tokenizer, [[*labels, -100, -100]]) == ["ab čab"]


def test_unknown_character__is_a_single_one_that_nothing_equals():
    tokenizer = new_tokenizer(["ab"])
    (text,) = read_labels(tokenizer, [tokenizer("axb")["input_ids"]])
    assert (len(text), text[0], text[2]) == (3, "a", "b")
    assert text[1] not in "ab[UNK]"


def test_greedy_decoding__merges_repeats_and_drops_blanks():
    tokenizer = new_tokenizer(["ab"])
    a, b, space, blank = 0, 1, 2, 4
    rows = [
        [blank, a, a, blank, a, b, b, space, space, b, blank],
        [a, a, -100, -100],
        [blank, blank, -100, -100],
    ]
    assert read_frames(tokenizer, rows) == ["aab b", "a", ""]


def test_frames_needed__is_where_the_loss_turns_finite():
    log_probs = torch.full((6, 1, 4), 0.25).log()
    for labels in itertools.chain.from_iterable(itertools.product(range(1, 4), repeat=size) for size in range(1, 5)):
        finite = [
            frames
            for frames in range(1, 7)
            if torch.nn.functional.ctc_loss(
                log_probs[:frames], torch.tensor([labels]), torch.tensor([frames]), torch.tensor([len(labels)])
            ).isfinite()
        ]
        assert min(finite, default=7) == min(frames_needed(labels), 7), labels


# --- a run


def test_run__learns_what_is_sung(learnt):
    assert results(learnt)["eval_cer"] < 0.05


def test_run__loads_by_its_auto_classes_and_the_pipeline_says_the_same(learnt, data):
    _, info = AutoModelForCTC.from_pretrained(learnt, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert isinstance(AutoProcessor.from_pretrained(learnt), Wav2Vec2Processor)
    listen = pipeline("automatic-speech-recognition", model=str(learnt))
    rows = predictions(learnt)
    assert len(rows) == len({row["id"] for row in rows}) == 12
    for row in rows:
        sound, _ = soundfile.read(data / "wav" / f"{row['id']}.wav", dtype="float32")
        assert listen(sound)["text"] == row["prediction"]


def test_published_recipe__runs_and_its_rates_are_those_of_the_predictions(data, tmp_path):
    out = finetune(data, tmp_path / "out")
    wrong = letters = 0
    for row in predictions(out):
        edits = edit_distance(row["label"], row["prediction"])
        assert row["cer"] == pytest.approx(edits / len(row["label"]))
        wrong, letters = wrong + edits, letters + len(row["label"])
    assert wrong
    assert results(out)["eval_cer"] == pytest.approx(wrong / letters)


def edit_distance(one: str, other: str) -> int:
    """By the definition, row by row."""
    above = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        row = [i + 1]
        for j, counterpart in enumerate(other):
            row.append(min(above[j] + (letter != counterpart), above[j + 1] + 1, row[j] + 1))
        above = row
    return above[-1]
