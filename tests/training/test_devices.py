"""One process trains on one device, whether it pre-trains or fine-tunes."""

import pytest

from modeling_data2vec_generic import Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec_generic.training.arguments import RunArguments
from modeling_data2vec_generic.training.base_trainer import ResumableTrainer

from ..tiny import from_scratch, run
from .test_full_evaluation import new_trainer

WHAT_TO_DO = r"sees 3 GPUs.*`torchrun --nproc_per_node 3 .*`accelerate launch --num_processes 3 "


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunArguments, "n_gpu", property(lambda arguments: 3))


def test_several_gpus__are_refused_by_the_trainer(tmp_path):
    model = new_trainer(tmp_path, "vit").model
    for trainer_class in (Data2VecTrainer, ResumableTrainer):
        arguments = Data2VecTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
        arguments._n_gpu = 3
        with pytest.raises(ValueError, match=WHAT_TO_DO):
            trainer_class(model=model, args=arguments, train_dataset=[])


@pytest.mark.usefixtures("three_gpus")
def test_several_gpus__are_refused_before_the_data_are_read(tmp_path):
    with pytest.raises(ValueError, match=WHAT_TO_DO):
        run(*from_scratch("vit"), "--train_dir", str(tmp_path / "not there"), output_dir=tmp_path)
