"""A run goes on from a checkpoint with the data and the settings that it began with, or says that it does not."""

import json
from pathlib import Path

import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image, Value

from modeling_data2vec_generic import MaskSampler
from modeling_data2vec_generic.modalities.series.collator import DataCollatorForData2VecSeries
from modeling_data2vec_generic.training.checkpointing.same_run import (
    describe_collator,
    describe_data,
    read_run,
    require_same_run,
    write_run,
)

from ..small_runs import Images, trainer


class OtherImages(Images):
    def __len__(self) -> int:
        return 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, max_steps=2).train()
    return folder / "checkpoint-2"


def test_other_data__are_refused(checkpoint, tmp_path):
    run = trainer(tmp_path, max_steps=3)
    run.train_dataset = OtherImages()
    with pytest.raises(ValueError, match=r"training data differ from those of .*checkpoint-2: 22 rows then, 20 now\."):
        run.train(resume_from_checkpoint=str(checkpoint))
    assert run.state.global_step == 0  # neither restored nor trained


def test_other_data__go_on_with_a_warning_if_asked(checkpoint, tmp_path, caplog):
    run = trainer(tmp_path, max_steps=3, save_strategy="no", ignore_data_skip=True)
    run.train_dataset = OtherImages()
    run.train(resume_from_checkpoint=str(checkpoint))
    assert "22 rows then, 20 now" in caplog.text
    assert run.state.global_step == 3


def test_other_settings__are_named_with_what_is_used(checkpoint, tmp_path, caplog):
    flags = {"learning_rate": 0.02, "ema_decay": 0.6, "per_device_train_batch_size": 2, "save_strategy": "no"}
    flags |= {"logging_steps": 1, "max_steps": 3}  # which may change
    run = trainer(tmp_path, **flags)
    run.model.config.loss_beta = 0.25
    run.train(resume_from_checkpoint=str(checkpoint))
    restored, changed = (record.message for record in caplog.records if "Settings differ" in record.message)
    assert "checkpoint-2: learning_rate was 0.01 and is 0.02. The checkpoint's values are used" in restored
    assert "samples_per_step was 8 and is 4; ema_decay was 0.5 and is 0.6; loss_beta was " in changed
    assert "and is 0.25. The run goes on with the new values" in changed
    assert "logging_steps" not in changed
    assert run.lr_scheduler.base_lrs == [0.01, 0.01]  # as is said


def test_same_run__goes_on_without_a_word(checkpoint, tmp_path, caplog):
    flags = {"max_steps": 3, "logging_steps": 1, "save_steps": 1, "dataloader_num_workers": 0}
    trainer(tmp_path, seed=9, **flags).train(resume_from_checkpoint=str(checkpoint))
    assert [record for record in caplog.records if "differ" in record.message] == []


def test_masks__are_among_the_settings():
    described = describe_collator(DataCollatorForData2VecSeries((2, 8), MaskSampler("random", 0.4)))
    assert (described["mask.strategy"], described["mask.ratio"]) == ("random", 0.4)


def rows(folder: Path, shade: int = 7) -> Dataset:
    folder.mkdir(parents=True)
    for number in range(3):
        PIL.Image.new("RGB", (8 + number, 8), (shade * number, 0, 0)).save(folder / f"{number}.bmp")
    paths = [str(folder / f"{number}.bmp") for number in range(3)]
    return Dataset.from_dict({"image": paths, "n": [0, 1, 2]}, Features({"image": Image(), "n": Value("int64")}))


def test_describe_data__of_files_that_were_moved_is_the_same(tmp_path):
    one, other = rows(tmp_path / "one"), rows(tmp_path / "other")
    assert describe_data(one) == describe_data(other)
    assert describe_data(one.select([0, 2, 1])) != describe_data(other)
    PIL.Image.new("RGB", (30, 8)).save(tmp_path / "one" / "1.bmp")
    assert describe_data(one) != describe_data(other)


@pytest.mark.parametrize("change", [lambda ids: [*ids[:-1], 5], lambda ids: ids[:-1]])
def test_describe_data__of_text_sees_other_tokens(change):
    ids = [[1, 2], [3, 4, 9]]
    one, other = (Dataset.from_dict({"input_ids": [ids[0], last]}) for last in (ids[1], change(ids[1])))
    assert describe_data(one) != describe_data(other)
    assert describe_data(one) == describe_data(Dataset.from_dict({"input_ids": ids}).with_format("torch"))


def test_checkpoint_without_a_description__is_resumed_with_a_warning(tmp_path, caplog):
    require_same_run(tmp_path, {"rows": 3}, {}, any_data=False)
    assert "has no run.json" in caplog.text


@pytest.mark.parametrize("text", ["[]", "{", json.dumps({"data": 3, "settings": {}})])
def test_damaged_description__is_an_error(text: str, tmp_path: Path):
    write_run(tmp_path, {"rows": 1}, {"dtype": torch.float32})
    assert read_run(tmp_path / "run.json") == {"data": {"rows": 1}, "settings": {"dtype": "torch.float32"}}
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="no data and settings|Expecting property name"):
        read_run(tmp_path / "run.json")
