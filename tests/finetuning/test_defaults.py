"""A task's published settings: they hold unless the user says otherwise, however it is spelled."""

import pytest

import run_finetune
from modeling_data2vec_generic.finetuning.defaults import with_defaults
from modeling_data2vec_generic.finetuning.tasks import TASKS

FLAGS = "--model_type vit --dataset_name digits --output_dir out --use_cpu".split()


@pytest.mark.parametrize("task", TASKS)
def test_defaults__hold_where_nothing_is_given(task):
    parsed = with_defaults(TASKS[task], [*FLAGS], run_finetune.ARGUMENTS)
    held = {name: value for group in parsed for name, value in vars(group).items()}
    for name, value in TASKS[task].defaults.items():
        if name != "learning_rate":
            assert held[name] == value, name


@pytest.mark.parametrize(("batch", "accumulation", "rate"), [(512, 1, 1e-3), (64, 1, 1.25e-4), (64, 2, 2.5e-4)])
def test_defaults__learning_rate_goes_with_the_batch(batch, accumulation, rate):
    sizes = ["--per_device_train_batch_size", str(batch), "--gradient_accumulation_steps", str(accumulation)]
    training = with_defaults(TASKS["image-classification"], [*FLAGS, *sizes], run_finetune.ARGUMENTS)[-1]
    assert training.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize("flag", [["--learning_rate", "0.25"], ["--learning-rate", "0.25"], ["--learning_rate=0.25"]])
def test_defaults__what_is_given_is_taken_as_it_is(flag):
    training = with_defaults(TASKS["image-classification"], [*FLAGS, *flag], run_finetune.ARGUMENTS)[-1]
    assert training.learning_rate == 0.25
