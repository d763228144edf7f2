"""The health of a run: what is measured, what it is called, and that real runs get into each state."""

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from benchmarks.cases import QUICK_CASES
from benchmarks.waits import counted_waits
from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainingArguments,
)
from modeling_data2vec_generic.evaluation.probe import effective_rank
from modeling_data2vec_generic.training.acceleration.global_batch import REPEATED
from modeling_data2vec_generic.training.monitoring.health import HealthCallback
from modeling_data2vec_generic.training.monitoring.verdict import (
    COLLAPSED,
    EARLIEST,
    HEALTHY,
    PARTIAL,
    RISING,
    TOO_EARLY,
    verdict,
)
from modeling_data2vec_generic.training.monitoring.vital_signs import mean_cosine, vital_signs

from ...tiny import run, tiny_encoder
from ..small_runs import trainer

ENCODER = "image_size=8,patch_size=2,hidden_size=32,num_hidden_layers=3,num_attention_heads=2,intermediate_size=64"
DIGITS = (
    f"examples/vision/digits.json --config_overrides {ENCODER} --per_device_train_batch_size 32 --warmup_steps 10 "
    "--per_device_eval_batch_size 128 --probe_train_samples 50 --probe_test_samples 50 --eval_strategy no "
    "--logging_steps 20 --health_steps 20"
)


def digits_run(flags: str, output_dir: Path) -> Any:
    return run(*DIGITS.split(), *flags.split(), output_dir=output_dir)


def states(trainer: Any) -> list[str]:
    return [entry["health"] for entry in trainer.state.log_history if "health" in entry]


@pytest.mark.parametrize(
    ("flags", "state", "advice"),
    [
        ("--learning_rate .004 --ema_decay .8 --ema_end_decay .8", HEALTHY, None),
        ("--learning_rate .002 --ema_decay .95 --ema_end_decay .99 --ema_anneal_steps 60", RISING, None),
        ("--learning_rate .01 --weight_decay 5 --warmup_steps 0", PARTIAL, "lower learning_rate (now 0.01)"),
        ("--learning_rate .1 --warmup_steps 0", COLLAPSED, "lower learning_rate (now 0.1)"),
        (
            "--learning_rate .002 --target_layer_norms none --ema_decay 0 --ema_end_decay 0",
            COLLAPSED,
            "normalise the targets: target_layer_norms (now none) layer or instance; raise ema_decay (now 0.0)",
        ),
    ],
    ids=["well", "slow teacher", "heavy weight decay", "huge learning rate", "no norm and no EMA"],
)
def test_run__is_called_what_it_is(flags, state, advice, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "modeling_data2vec_generic"):
        trainer = digits_run(f"{flags} --max_steps 60", tmp_path)

    assert states(trainer)[0] == TOO_EARLY  # before the first step
    assert states(trainer)[-1] == state
    warnings = [record.message for record in caplog.records if "What helps" in record.message]
    assert (advice is not None) == any(advice or "" in message for message in warnings)


def test_stop_on_collapse__stops_and_names_the_last_checkpoint(tmp_path, caplog):
    flags = "--learning_rate .1 --warmup_steps 0 --max_steps 80 --save_strategy steps --save_steps 10"
    with caplog.at_level(logging.WARNING, "modeling_data2vec_generic"):
        trainer = digits_run(f"{flags} --stop_on_collapse true", tmp_path)

    assert trainer.state.global_step == 60  # found at 40 and at 60
    assert f"The last checkpoint is {tmp_path / 'checkpoint-50'}" in caplog.text
    assert "mask_ratio (now 0.62 of all positions)" in caplog.text  # 10 of 16 patches
    results = json.loads((tmp_path / "all_results.json").read_text(encoding="utf-8"))
    assert results["health"] == COLLAPSED
    ranks = [entry["health_rank_top"] for entry in trainer.state.log_history if "health_rank_top" in entry]
    assert results["health_rank_top"] == ranks[-1]


@pytest.mark.parametrize(("warmup", "first"), [(0, EARLIEST), (EARLIEST + 10, EARLIEST + 10)])
def test_verdicts__are_not_given_in_the_first_steps(warmup, first, tmp_path, caplog):
    # A rate that collapses the run at once.
    flags = f"--learning_rate .1 --warmup_steps {warmup} --max_steps {first} --health_steps 10 --stop_on_collapse true"
    with caplog.at_level(logging.INFO, "modeling_data2vec_generic"):
        trainer = digits_run(flags, tmp_path)
    found = states(trainer)
    assert found[:-1] == [TOO_EARLY] * (first // 10)
    assert found[-1] != TOO_EARLY
    expected = f"Step 20: too early for a verdict on the health of the run, which is given from step {first} on"
    assert expected in caplog.text


# --- when it is measured, and of which samples


@pytest.mark.fast
@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, [0, 2, 4, 6, 8, 10, 11]),
        ({"health_steps": 4}, [0, 4, 8]),
        ({"health_steps": 0.3}, [0, 4, 8]),
        ({"health_steps": 100, "eval_strategy": "steps", "eval_steps": 6}, [0]),
        ({"eval_strategy": "steps", "eval_steps": 6, "eval_on_start": True}, [0, 6, 11]),
    ],
)
def test_looks__are_taken_when_they_are_due(flags, steps, tmp_path, monkeypatch):
    autocast, probed = [], []

    def look(model: Any, batches: Any) -> dict[str, float]:
        autocast.append(torch.is_autocast_enabled("cpu"))
        return signs()

    def probe(encoder: Any) -> dict[str, float]:
        probed.append(torch.is_autocast_enabled("cpu"))
        return {"rank": 2.0}

    monkeypatch.setattr("modeling_data2vec_generic.training.monitoring.health.vital_signs", look)
    defaults = {"max_steps": 11, "logging_steps": 3, "save_strategy": "no", "per_device_train_batch_size": 1}
    run = trainer(tmp_path, bf16=True, gradient_accumulation_steps=1, **defaults, **flags)
    run.feature_metrics = probe
    run.train()
    assert [entry["step"] for entry in run.state.log_history if "health_runtime" in entry] == steps
    assert autocast == [True] * len(steps)
    timed = [{"init_probe_runtime", "eval_probe_runtime"} & entry.keys() for entry in run.state.log_history]
    assert probed == [True] * len([names for names in timed if names])
    assert probed
    # No look takes the place of a log.
    assert [entry["step"] for entry in run.state.log_history if "loss" in entry] == [3, 6, 9]
    run.evaluate()
    assert len(autocast) == len(steps)  # the weights have been looked at
    assert run.health_metrics()["health_loss"] == 1.0


@pytest.mark.fast
@pytest.mark.parametrize("steps", [-1, 0, 1.5, math.inf, math.nan])
def test_health_steps__out_of_range_are_refused(steps, tmp_path):
    with pytest.raises(ValueError, match="health_steps=.* must be a whole number of steps, 1 or more, or a share"):
        Data2VecTrainingArguments(output_dir=str(tmp_path), health_steps=steps, use_cpu=True, report_to="none")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("rows", "processes", "size", "expected"),
    [
        (7, 1, 3, [[[0, 1, 2], [3, 4, 5], [6]]]),
        (7, 2, 3, [[[0, 1, 2], [3]], [[4, 5, 6], "repeated"]]),
        (4, 3, 1, [[[0], [1]], [[2], [3]], ["repeated", "repeated"]]),
    ],
)
def test_samples__are_shared_out_in_as_many_batches_everywhere(rows, processes, size, expected):
    for rank, batches in enumerate(expected):
        arguments = SimpleNamespace(
            process_index=rank, world_size=processes, per_device_eval_batch_size=size, dataloader_pin_memory=False
        )
        dataset = [{"row": torch.tensor(i)} for i in range(rows)]
        run: Any = Mock(train_dataset=dataset, eval_dataset=None, args=arguments, eval_data_collator=default_collate)
        run.reading = lambda rows, collator, is_training: (rows, collator)
        found = HealthCallback(run)._batches
        assert ["repeated" if REPEATED in batch else batch["row"].tolist() for batch in found] == batches


# --- what is measured


def signs(**changes: float) -> dict[str, float]:
    healthy = {"loss": 1.0, "loss_to_trivial": 0.9, "target_std": 0.8, "prediction_std": 0.5}
    depths = {f"{kind}_{depth}": 9.0 for kind in ("rank", "cosine") for depth in ("embeddings", "middle", "top")}
    return healthy | depths | changes


@pytest.mark.fast
@pytest.mark.parametrize(
    ("then", "now", "state"),
    [
        ({}, {}, HEALTHY),
        ({}, {"loss": 2.0}, HEALTHY),  # the targets have not changed
        ({}, {"target_std": 1.0}, HEALTHY),
        ({}, {"loss": 1.2, "target_std": 1.0}, RISING),
        ({}, {"target_std": 0.07}, COLLAPSED),
        ({}, {"loss_to_trivial": 2.1}, COLLAPSED),
        ({"loss_to_trivial": 2.2}, {"loss_to_trivial": 2.1}, HEALTHY),  # it has begun so
        ({"loss_to_trivial": 2.2}, {"loss_to_trivial": 4.5}, COLLAPSED),
        ({}, {"rank_top": 1.5}, COLLAPSED),
        ({}, {"rank_top": 2.7, "target_std": 0.75}, PARTIAL),
        ({}, {"rank_middle": 3.0}, PARTIAL),
        ({}, {"rank_middle": 4.0}, HEALTHY),
        ({}, {"rank_embeddings": 4.0, "loss": 1.2, "target_std": 1.0}, PARTIAL),
        ({"rank_embeddings": 1.3}, {"rank_embeddings": 1.01}, HEALTHY),  # it never told inputs apart there
        ({"rank_embeddings": 60.0}, {"rank_embeddings": 12.0}, HEALTHY),  # many directions are left
        ({"rank_embeddings": 60.0, "rank_middle": 60.0}, {"rank_embeddings": 12.0, "rank_middle": 5.9}, PARTIAL),
        ({"rank_top": 60.0}, {"rank_top": 9.4}, HEALTHY),
        ({"rank_top": 60.0}, {"rank_top": 5.9}, COLLAPSED),
        ({"rank_top": 60.0}, {"rank_top": 3.2, "loss_to_trivial": 0.79}, HEALTHY),  # the targets are predicted
        ({"rank_top": 60.0}, {"rank_top": 3.2, "loss_to_trivial": 0.81}, COLLAPSED),
        ({"rank_top": 60.0}, {"rank_top": 1.4, "loss_to_trivial": 0.5}, COLLAPSED),  # by position alone
        ({"rank_middle": 60.0}, {"rank_middle": 3.2, "loss_to_trivial": 0.5}, HEALTHY),
        ({"rank_middle": 60.0}, {"rank_middle": 1.4, "loss_to_trivial": 0.5}, PARTIAL),
    ],
)
def test_verdict__by_what_has_changed(then, now, state):
    assert verdict([signs(**then), signs(**now)]).state == state


@pytest.mark.fast
def test_verdict__compares_with_the_best_that_there_was():
    assert verdict([signs(rank_top=3.0), signs(rank_top=20.0), signs(rank_top=4.0)]).state == PARTIAL
    assert verdict([signs(rank_top=3.0), signs(rank_top=4.0)]).state == HEALTHY


@pytest.mark.fast
def test_mean_cosine__of_all_pairs():
    features = torch.randn(7, 5)
    pairs = [
        float(features[i] @ features[j] / features[i].norm() / features[j].norm())
        for i in range(7)
        for j in range(7)
        if i != j
    ]

    assert float(mean_cosine(features)) == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize("beta", [0.0, 0.5])  # the squared error, and smooth L1
def test_vital_signs__of_real_tokens_at_three_depths(beta):
    torch.manual_seed(0)
    model = Data2VecGenericForPreTraining(
        Data2VecGenericConfig(loss_beta=beta), tiny_encoder("bert", num_hidden_layers=3)
    )
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.train()
    lengths = torch.tensor([9, 4, 7, 5, 8, 6])
    ids = torch.randint(5, 100, (6, 9))
    attention_mask = (torch.arange(9) < lengths[:, None]).long()
    mask = torch.zeros(6, 1, 9, dtype=torch.bool)
    mask[:, :, 1:3] = True
    batch = {
        "input_ids": ids,
        "attention_mask": attention_mask,
        "mask": mask,
        "student_input_ids": ids[:, None] * 0 + 3,
    }
    halves = [{name: value[i : i + 3] for name, value in batch.items()} for i in (0, 3)]

    state = torch.get_rng_state()
    found = vital_signs(model, [*halves, {**halves[0], REPEATED: True}])  # the last one counts for nothing

    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    with torch.no_grad():
        output = model.eval()(**batch)
        rows = {}
        for name, encoder in (("student", model.encoder), ("teacher", model.teacher)):
            hidden = [  # each sentence by itself: no padding at all
                encoder(input_ids=ids[i : i + 1, :length], output_hidden_states=True).hidden_states
                for i, length in enumerate(lengths)
            ]
            rows[name] = [torch.cat([layers[depth].mean(1) for layers in hidden]) for depth in (0, 2, 3)]
    for i, depth in enumerate(("embeddings", "middle", "top")):
        assert found[f"rank_{depth}"] == pytest.approx(effective_rank(rows["student"][i].numpy()), rel=1e-4)
        assert found[f"cosine_{depth}"] == pytest.approx(float(mean_cosine(rows["student"][i])), rel=1e-4)
    cosines = torch.cosine_similarity(rows["student"][2], rows["teacher"][2])
    assert found["teacher_distance"] == pytest.approx(1 - float(cosines.mean()), rel=1e-3)
    assert found["loss"] == pytest.approx(float(output.loss), rel=1e-5)

    def loss(predictions: torch.Tensor) -> float:
        errors = (output.targets - predictions).abs()
        quadratic = errors.square() / (2 * beta) if beta else errors.square()
        return float(torch.where(errors < (beta or torch.inf), quadratic, errors - beta / 2).sum())

    expected = loss(output.predictions) / loss(output.targets.mean(0))
    assert found["loss_to_trivial"] == pytest.approx(expected, rel=1e-4)
    assert found["target_std"] == pytest.approx(float(output.targets.std(0).mean()), rel=1e-3)


@pytest.mark.parametrize("padded", [False, True])
def test_vital_signs__wait_once(padded, monkeypatch):
    case = QUICK_CASES["text-quick"]
    model, rows = case.model("data2vec"), case.examples()
    for column in ("input_ids", "special_tokens_mask") if padded else ():
        rows[1][column] = rows[1][column][3:]
    batch = case.collator("data2vec")(rows)
    assert model.config.loss_beta  # smooth L1 needs a second pass
    model(**batch)  # the first batch may wait
    # What follows on the host would be counted too.
    monkeypatch.setattr("modeling_data2vec_generic.training.monitoring.vital_signs._signs", lambda *args: {})
    with counted_waits() as waits:
        vital_signs(model, [batch, batch])
    assert [wait.operation for wait in waits] == ["cpu"]
