"""Bad rows that a run meets are replaced, named once, listed and counted; too many end it."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_data2vec_generic.data.quality.bad_rows import BadRows
from modeling_data2vec_generic.data.quality.reading import BadRow, Unreadable
from modeling_data2vec_generic.training.monitoring.row_counts import RowCounts

from ..small_runs import Images, assert_same_run, history, trainer

pytestmark = pytest.mark.fast


class SomeBroken(Images):
    """Images of which some cannot be decoded."""

    def __init__(self, *bad: int):
        self.bad = bad
        self.read: list[int] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        sample = super().__getitem__(index) | {"sample_index": index}
        return sample | {"pixel_values": Unreadable("broken", f"{index}.png")} if index in self.bad else sample


class Replaced(Images):
    """The same, with the next good image in the place of each broken one."""

    def __init__(self, *bad: int):
        self.bad = bad

    def __getitem__(self, index: int) -> dict[str, Any]:
        while index in self.bad:
            index = (index + 1) % len(self)
        return super().__getitem__(index) | {"sample_index": index}


def run_on(folder: Path, data: Any, evaluation: Any = None, resume: str | None = None, **flags: Any) -> Any:
    run = trainer(folder, **flags)
    run.train_dataset, run.eval_dataset = data, evaluation
    run.rows.max_bad_fraction = 0.3
    run.train(resume_from_checkpoint=resume)
    return run


def listed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bad_rows.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run = run_on(folder, SomeBroken(3, 4, 21), SomeBroken(0), eval_strategy="steps", eval_steps=3)
    return run, torch.get_rng_state()


def without_counts(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "bad_rows"} for entry in log]


def test_run__trains_on_the_next_good_rows_and_counts_bad_ones(whole, tmp_path):
    run, _ = whole
    expected = run_on(tmp_path, Replaced(3, 4, 21), Replaced(0), eval_strategy="steps", eval_steps=3)
    assert without_counts(history(run)) == history(expected)
    # Epochs of 22 rows are 3 steps: there are two epochs and 8 rows, and there are three evaluations.
    assert run.rows.read == {"train": 52, "validation": 66}
    assert run.rows.bad["validation"] == 3
    assert 6 <= run.rows.bad["train"] <= 9
    assert expected.rows.bad.total() == 0
    assert [entry["bad_rows"] for entry in history(run) if "loss" in entry][-1] <= run.rows.bad.total()


def test_run__lists_and_names_each_row_once(whole):
    run, _ = whole
    rows = listed(Path(run.args.output_dir))
    assert sorted((row["split"], row["row"], row["path"]) for row in rows) == [
        *(("train", row, f"{row}.png") for row in (3, 4, 21)),
        ("validation", 0, "0.png"),
    ]
    assert {row["reason"] for row in rows} == {"broken"}


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run__reads_and_counts_the_same(whole, workers, tmp_path):
    run, rng = whole
    data, evaluation = SomeBroken(3, 4, 21), SomeBroken(0)
    checkpoint = Path(run.args.output_dir, "checkpoint-4")
    assert json.loads((checkpoint / "rows_read.json").read_text())["train"]["read"] == 30
    resumed = run_on(
        tmp_path,
        data,
        evaluation,
        resume=str(checkpoint),
        eval_strategy="steps",
        eval_steps=3,
        dataloader_num_workers=workers,
    )
    if workers == 0:
        assert_same_run(resumed, run, rng)
    assert history(resumed) == history(run)
    assert (resumed.rows.read, resumed.rows.bad) == (run.rows.read, run.rows.bad)


def test_run__ends_with_too_many_bad_rows(tmp_path):
    broken = range(0, 22, 3)  # 8 of 22
    with pytest.raises(ValueError, match=r"^\d+ of the 1\d\d rows read are bad, see .*max_bad_fraction=0.3 allows\."):
        run_on(tmp_path / "many", SomeBroken(*broken), max_steps=40, save_strategy="no")
    few = tmp_path / "few"
    with pytest.raises(ValueError, match=r"of the 16 rows read are bad, see .*max_bad_fraction=0.3 allows\."):
        run_on(few, SomeBroken(*range(0, 22, 2)), max_steps=2, save_strategy="no")


def test_run__ends_if_nothing_can_be_read(tmp_path):
    with pytest.raises(ValueError, match="^22 train rows one after the other are bad, the last one .*png"):
        run_on(tmp_path, SomeBroken(*range(22)), max_steps=2, dataloader_num_workers=1, save_strategy="no")


def test_health__looks_at_good_rows(tmp_path):
    run = run_on(tmp_path, Images(), SomeBroken(1, 2), max_steps=1, save_strategy="no")
    assert [row["row"] for row in listed(tmp_path)] == [1, 2]
    assert run.rows.bad.total() == 0  # a look is no reading of the data


def test_row_counts__name_each_row_once_and_not_without_end(tmp_path, transformers_log):
    counts = RowCounts(0.5, BadRows(tmp_path, start_over=True))
    with transformers_log.at_level(logging.WARNING, "modeling_data2vec_generic"):
        for row in (*range(40), *range(40)):
            counts.add("train", 3, [BadRow("train", row, "broken", f"{row}.png")])
    messages = [record.message for record in transformers_log.records]
    assert len(messages) == 21
    assert messages[0] == (
        f"A row is bad (0.png: broken), see {tmp_path}/bad_rows.jsonl. The next good ones are read in their place."
    )
    assert messages[-1] == f"Further bad rows are only listed, in {tmp_path}/bad_rows.jsonl."
    assert len(listed(tmp_path)) == 40
    assert (counts.read["train"], counts.bad["train"]) == (240, 80)


def test_row_counts__blank_rows_are_not_bad(tmp_path, transformers_log):
    counts = RowCounts(0.0, BadRows(tmp_path, start_over=True))
    counts.add("train", 200, [BadRow("train", row, "silence", blank=True, counted=row > 0) for row in range(3)])
    counts.check()
    assert not counts.listed_in.path.exists()
    counts.save(tmp_path)
    resumed = RowCounts(0.0, counts.listed_in)
    resumed.load(tmp_path)
    assert (resumed.read["train"], resumed.bad["train"], resumed.blank["train"]) == (200, 0, 2)
    resumed.note_end()
    assert "2 of the 200 rows read were blank, such as silence" in transformers_log.text


def test_row_counts__of_all_splits_are_compared_together(tmp_path):
    counts = RowCounts(0.1, None)
    bad = [BadRow("validation", row, "broken") for row in range(5)]
    counts.add("validation", 10, bad)
    counts.check()  # too few rows were read
    with pytest.raises(ValueError, match="5 of the 10 rows read are bad: more than max_bad_fraction=0.1 allows"):
        counts.check(at_end=True)
    counts.add("train", 90, [])
    counts.check()
    counts.add("train", 1, [BadRow("train", 7, "broken", counted=False)])
    assert counts.bad.total() == 5
    counts.add("validation", 9, [BadRow("validation", row, "broken") for row in range(9)])
    with pytest.raises(ValueError, match="14 of the 110 rows read"):
        counts.check()
