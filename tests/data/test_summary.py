"""Notes on the data become one message; bad rows of all splits are counted together, and listed."""

import json
import logging

import numpy as np
import pytest
import soundfile
from datasets import Dataset
from transformers import Wav2Vec2FeatureExtractor

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality.screening import good_rows, screened_together
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.data.summary import log_summary, note, summarized
from modeling_data2vec_generic.modalities.speech.waveforms import prepare_speech

pytestmark = pytest.mark.fast


def rows(count, **columns):
    return Dataset.from_dict({"sample_index": list(range(count)), **columns})


def screen(problems, dataset=None, split="train", **settings):
    dataset = rows(len(problems)) if dataset is None else dataset
    return good_rows(problems, dataset, noun="row", split=split, max_bad_fraction=0.1, **settings).tolist()


def listed(bad_rows):
    return [json.loads(line) for line in bad_rows.path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def messages(transformers_log):
    with transformers_log.at_level(logging.INFO, "modeling_data2vec_generic"):
        yield lambda: [record.message for record in transformers_log.records if record.levelname == "INFO"]


def test_summary__is_one_message_split_by_split_and_says_nothing_twice(messages):
    with summarized():
        note("train", "one")
        note("validation", "two")
        note("train", "three")
        note("train", "one")
        assert messages() == []
        log_summary()
        assert messages() == ["The data:\n  train: one\n  train: three\n  validation: two"]
        note("train", "four")
        note("validation", "two")
    assert messages()[1:] == ["The data:\n  train: four"]
    note("train", "five")
    assert messages()[2:] == ["train: five"]


def test_summary__says_how_many_rows_are_bad_and_why(messages):
    problems = ["", "ValueError: 'a.png' is <bytes at 0x1>", "ValueError: 'b.png' is <bytes at 0x2>", "no image"]
    with summarized(), screened_together({"train": rows(40)}):
        screen([""] * 3)
        screen(problems, split="validation")
    assert messages() == [
        "The data:\n  train: All 3 rows can be used.\n"
        "  validation: 3 of 4 rows are bad and left out: 2 for 'ValueError: … is …', 1 for 'no image'."
    ]


def said_of(tmp_path, text, **flags):
    """The notes that are made while a table is read."""
    (tmp_path / "rows.csv").write_text(text)
    args = DataArguments(train_file=str(tmp_path / "rows.csv"), modality="text", **flags)
    with pytest.MonkeyPatch.context() as patch:
        found = []
        patch.setattr("modeling_data2vec_generic.data.sources.columns.note", lambda split, text: found.append(text))
        load_raw_datasets(args, "text", validation=False)
    return found


@pytest.mark.parametrize("name", ["labels", "Category", "class"])
def test_labels__in_a_column_of_another_usual_name_are_said_to_be_passed_over(name, tmp_path):
    text = f"text,{name}\n" + "".join(f"a cat {i},{i % 2}\n" for i in range(6))
    said = said_of(tmp_path, text)
    assert any(
        f"'{name}' is not used as label. If it is one, add --label_column_name {name}." in note for note in said
    )
    assert "There is no probe, since the train data have no labels." in said
    named = said_of(tmp_path, text, label_column_name=name)
    assert "2 classes: 0 (3), 1 (3)." in named
    assert not any("not used as label" in note for note in named)


@pytest.mark.parametrize(
    ("labels", "why"), [(["x"] * 6, "all rows are of one class (x)"), ([".5", "1", ".7"] * 2, "not classes")]
)
def test_labels__that_are_none_are_said_to_be_none(labels, why, tmp_path):
    said = said_of(tmp_path, "text,label\n" + "".join(f"a cat,{label}\n" for label in labels))
    assert any(note.startswith("There is no probe") and why in note for note in said)


def test_sound__duration_and_parts_are_said(tmp_path, messages):
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.tile([0.1, -0.1], 32_000), 16_000)
    args = DataArguments(train_dir=str(tmp_path), max_duration_in_seconds=2.0, max_train_samples=2)
    raw = load_raw_datasets(args, "speech", validation=False)["train"]
    with summarized():
        assert len(prepare_speech(raw, Wav2Vec2FeatureExtractor(), args, "train", 400)) == 4
    assert "  train: 8.0 seconds of sound.\n" in messages()[-1]
    longer = "2 of 2 sounds are longer than 2 seconds and give 4 samples per epoch, each a random part of that length."
    assert messages()[-1].endswith(f"  train: {longer}")
