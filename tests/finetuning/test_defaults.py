"""A task's published settings: they are used unless the user gives another value, in any spelling of the flag."""

import pytest
from datasets import List, Value

from modeling_data2vec_generic.finetuning.defaults import with_defaults
from modeling_data2vec_generic.finetuning.tasks import TASKS
from modeling_data2vec_generic.runs import finetuning

pytestmark = pytest.mark.fast

FLAGS = "--model_type vit --dataset_name digits --output_dir out --use_cpu".split()


CLASSES = Value("string")


def held_defaults(task, label):
    parsed = with_defaults(TASKS[task], label, [*FLAGS], finetuning.ARGUMENTS)
    return {name: value for group in parsed for name, value in vars(group).items()}


@pytest.mark.parametrize("task", TASKS)
def test_defaults__hold_where_nothing_is_given(task):
    held = held_defaults(task, CLASSES)
    for name, value in TASKS[task].defaults.items():
        if name != "learning_rate":
            assert held[name] == value, name


@pytest.mark.parametrize("task", ["image-classification", "video-classification"])
def test_defaults__are_of_use_with_the_labels(task):
    several, numbers = held_defaults(task, List(CLASSES)), held_defaults(task, Value("float32"))
    assert several["label_smoothing_factor"] == numbers["label_smoothing_factor"] == 0
    assert several["mixup"] == TASKS[task].defaults["mixup"]
    assert numbers["mixup"] == numbers["cutmix"] == 0
    assert numbers["layer_decay"] == several["layer_decay"] == TASKS[task].defaults["layer_decay"]


@pytest.mark.parametrize(("batch", "accumulation", "rate"), [(512, 1, 1e-3), (64, 1, 1.25e-4), (64, 2, 2.5e-4)])
def test_defaults__learning_rate_goes_with_the_batch(batch, accumulation, rate):
    sizes = ["--per_device_train_batch_size", str(batch), "--gradient_accumulation_steps", str(accumulation)]
    training = with_defaults(TASKS["image-classification"], CLASSES, [*FLAGS, *sizes], finetuning.ARGUMENTS)[-1]
    assert training.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize("flag", [["--learning_rate", "0.25"], ["--learning-rate", "0.25"], ["--learning_rate=0.25"]])
def test_defaults__what_is_given_is_taken_as_it_is(flag):
    training = with_defaults(TASKS["image-classification"], CLASSES, [*FLAGS, *flag], finetuning.ARGUMENTS)[-1]
    assert training.learning_rate == 0.25
