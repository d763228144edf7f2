"""The host waits for the device at one place of an optimizer step at most, from the loader to the teacher."""

import itertools
from typing import Any

import pytest
from transformers import PrinterCallback, TrainerCallback

from benchmarks.cases import OBJECTIVES, QUICK_CASES
from benchmarks.waits import Wait, counted_waits
from modeling_data2vec_generic import Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec_generic.training.monitoring.health import HealthCallback

STEPS = 4


class StepEnds(TrainerCallback):
    """How many waits there had been at the end of each step."""

    def __init__(self, waits: list[Wait]):
        self.waits = waits
        self.counts: list[int] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.counts.append(len(self.waits))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["text-quick", "images-64-quick", "speech-quick"])
def test_step__waits_once_and_for_the_step_before(name, objective, tmp_path):
    case = QUICK_CASES[name]
    batch = case.batch(objective)
    arguments = Data2VecTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        per_device_train_batch_size=case.batch_size,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    with counted_waits() as waits:
        ends = StepEnds(waits)
        trainer = Data2VecTrainer(
            case.model(objective),
            arguments,
            data_collator=lambda examples: dict(batch),
            train_dataset=[{"sample_index": i} for i in range(case.batch_size * STEPS)],
            callbacks=[ends],
        )
        for callback in (PrinterCallback, HealthCallback):
            trainer.remove_callback(callback)
        trainer.train()
    for begin, end in itertools.pairwise(ends.counts):
        (wait,) = waits[begin:end]
        assert wait.operation == "tolist"
        assert "training/acceleration/late_values.py" in wait.place
