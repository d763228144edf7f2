"""Bad rows of all splits are counted together, and listed."""

import json
import pickle

import pytest
from datasets import Dataset, Features, List, Value

from modeling_data2vec_generic.data.quality.bad_rows import BadRows
from modeling_data2vec_generic.data.quality.screening import (
    NothingLeft,
    collecting,
    good_rows,
    screened_together,
)

pytestmark = pytest.mark.fast


def rows(count, **columns):
    return Dataset.from_dict({"sample_index": list(range(count)), **columns})


def screen(problems, dataset=None, split="train", **settings):
    dataset = rows(len(problems)) if dataset is None else dataset
    return good_rows(problems, dataset, noun="row", split=split, max_bad_fraction=0.1, **settings).tolist()


def listed(bad_rows):
    return [json.loads(line) for line in bad_rows.path.read_text(encoding="utf-8").splitlines()]


def test_bad_rows__count_among_the_rows_of_all_splits():
    splits = {"train": rows(57), "validation": rows(3)}
    with screened_together(splits):
        assert screen([""] * 57) == list(range(57))
        assert screen(["", "broken", ""], split="validation") == [0, 2]
    with screened_together(splits):
        screen(["broken"] * 5 + [""] * 52)
        screen(["broken"] * 5 + [""] * 52)  # the same rows once more, for the probe
        with pytest.raises(ValueError, match="2 of 3 validation rows are bad.*; of all 60 rows 7 are: more than max_"):
            screen(["", "broken", "broken"], split="validation")
    with pytest.raises(ValueError, match="1 of 3 validation rows are bad .*: more than max_bad_fraction=0.1 allows"):
        screen(["", "broken", ""], split="validation")


def test_bad_rows__of_the_beginning_of_a_stream_do_not_count_while_there_are_few_rows():
    with screened_together({"train": rows(5)}, streamed=True):
        assert screen(["", "broken", "broken", "", ""]) == [0, 3, 4]
    with (
        screened_together({"train": rows(100)}, streamed=True),
        pytest.raises(ValueError, match="11 of 100 train rows"),
    ):
        screen(["broken"] * 11 + [""] * 89)


def test_bad_rows__are_all_listed_once_with_their_file(tmp_path):
    bad_rows = BadRows(tmp_path / "out", start_over=True)
    file = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"sample_index": Value("int64"), "image": file, "video": List(file)})
    files = [{"bytes": None, "path": f"{i}.png"} for i in range(30)]
    data = {"sample_index": list(range(30)), "image": files, "video": [[file] * 2 for file in files]}
    dataset = Dataset.from_dict(data, features=features)
    splits = {"train": dataset, "validation": rows(100)}
    with screened_together(splits, bad_rows):
        screen([""] * 30, dataset, column="image")
        assert not bad_rows.path.exists()
        screen(["broken"] * 8 + [""] * 22, dataset, column="image")
        screen(["broken"] * 9 + [""] * 21, dataset, column="video")
        screen([""] * 99 + ["empty"], split="validation")
    assert listed(bad_rows) == [
        *({"split": "train", "row": i, "path": f"{i}.png", "reason": "broken"} for i in range(9)),
        {"split": "validation", "row": 99, "reason": "empty"},
    ]


def test_bad_rows__are_listed_even_when_they_are_too_many(tmp_path):
    bad_rows = BadRows(tmp_path, start_over=True)
    with screened_together({"train": rows(9)}, bad_rows), pytest.raises(ValueError, match=r"see .*bad_rows\.jsonl"):
        screen(["broken"] * 9)
    assert len(listed(bad_rows)) == 9


def test_bad_rows__of_a_window_are_collected_only(tmp_path, caplog):
    bad_rows = BadRows(tmp_path, start_over=True)
    with screened_together({"train": rows(3)}, bad_rows), collecting() as found:
        assert screen(["", "broken", ""]) == [0, 2]
        with pytest.raises(NothingLeft):
            screen(["broken", None, "broken"])
    assert [(row["row"], row["reason"]) for row in found] == [(1, "broken"), (0, "broken"), (2, "broken")]
    assert not caplog.records
    assert list(tmp_path.iterdir()) == []


def test_bad_rows__are_listed_once_also_by_a_run_that_goes_on(tmp_path):
    bad_rows = BadRows(tmp_path, start_over=True)
    with screened_together({"train": rows(30)}, bad_rows):
        screen(["", "broken", ""])
    with open(bad_rows.path, "a") as file:
        file.write('{"split": "tra')  # the process was killed here
    resumed = pickle.loads(pickle.dumps(BadRows(tmp_path, start_over=False)))
    with screened_together({"train": rows(30)}, resumed):
        screen(["", "broken", "broken"])
    assert [row["row"] for row in listed(resumed)] == [1, 2]
    BadRows(tmp_path, start_over=True)
    assert list(tmp_path.iterdir()) == []
