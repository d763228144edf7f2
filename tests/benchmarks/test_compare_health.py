"""Verdicts beside the probe: what counts as a hit, and what the recorded runs are called by the code as it is."""

from typing import Any

import pytest

from benchmarks.compare import rows
from benchmarks.compare.agreement import ALARMS, FELL, ROSE, WITHIN, agreement_table, judged
from benchmarks.compare.tables.health import DATA, DEFAULTS, LIMITS_SET_ON, RECIPE, HealthTable
from modeling_data2vec_generic.training.monitoring.verdict import (
    COLLAPSED,
    EARLIEST,
    HEALTHY,
    PARTIAL,
    RISING,
    TOO_EARLY,
)

pytestmark = pytest.mark.fast

RECORDED = judged(rows.read(rows.KEPT / "health.jsonl"))


def row(before: float, after: float, health: str = HEALTHY, **changes: Any) -> dict[str, Any]:
    scores = ({"knn": value, "linear": value} for value in (before, after))
    made = {"table": "some", "data": "digits", "contender": "recipe", "steps": 100, "health": health}
    return {**made, **dict(zip(("untrained", "scores"), scores, strict=True)), "test_rows": 400, **changes}


def look(step: int, rank: float) -> dict[str, float]:
    depths = {f"{kind}_{depth}": rank for kind in ("rank", "cosine") for depth in ("embeddings", "middle", "top")}
    return {"step": step, "loss": 1.0, "loss_to_trivial": 0.5, "target_std": 0.8, "prediction_std": 0.5, **depths}


@pytest.mark.parametrize(
    ("before", "after", "probe"),
    [(0.5, 0.6, ROSE), (0.6, 0.5, FELL), (0.5, 0.55, WITHIN), (0.9, 0.95, ROSE)],  # 6.9 points, 3.6 near 1
)
def test_probe__moves_by_more_than_its_noise_or_not(before, after, probe):
    (run,) = judged([row(before, after)])
    assert run.probe == probe
    assert run.change == pytest.approx(after - before)


def test_rows_without_a_verdict_or_a_probe_before__do_not_count():
    assert not judged([row(0.5, 0.6, health=None), row(0.5, 0.6, untrained=None)])


def test_scores_before_training__are_those_of_untrained_weights_with_the_same_encoder_seed_and_test_rows():
    def made(contender: str, seed: int, linear: float, scored_on: str = "test", health: Any = None) -> dict[str, Any]:
        return {
            **row(0, 0, health, untrained=None),
            "contender": contender,
            "seed": seed,
            "settings": {"encoder": {"hidden_size": 8}, "scored_on": scored_on},
            "scores": {"linear": linear, "finetuned": 0.1},  # what is fine-tuned is no probe
        }

    found = judged(
        [
            made("new weights", 0, 0.5),
            made("new weights", 1, 0.6),
            made("new weights", 1, 0.2, scored_on="validation"),
            made("data2vec", 1, 0.8, health=HEALTHY),
            made("data2vec", 2, 0.8, health=HEALTHY),  # no new weights of this seed
        ]
    )
    assert [run.change for run in found] == [pytest.approx(0.2)]


def test_rows_of_all_tables__say_on_how_many_rows_they_are_tested():
    every = [row for path in rows.KEPT.glob("*.jsonl") for row in rows.read(path)]
    assert len(judged(every)) > 150


def test_verdict__is_that_of_the_looks_where_there_are_some():
    looks = [look(0, 9.0), look(EARLIEST, 1.2)]
    late, early = judged(
        [
            row(0.5, 0.4, looks=looks, warmup_steps=4),
            row(0.5, 0.4, looks=looks, warmup_steps=EARLIEST + 1),
        ]
    )
    assert (late.state, early.state) == (COLLAPSED, TOO_EARLY)


def test_table__counts_hits_and_false_alarms():
    found = [
        row(0.6, 0.4, COLLAPSED),
        row(0.5, 0.5, PARTIAL),
        row(0.5, 0.7, PARTIAL),
        row(0.5, 0.7, HEALTHY),
        row(0.5, 0.7, RISING),
        row(0.5, 0.5, HEALTHY),
        row(0.7, 0.5, HEALTHY),
        row(0.7, 0.5, TOO_EARLY),
    ]
    lines = agreement_table(judged(found), "short runs").splitlines()
    assert lines[-1] == "| all | 8 | 1 | 1 | 1 | 2 | 1 | 1 | 1 |"


def test_runs__are_of_all_data_and_no_two_are_the_same():
    runs = HealthTable().runs()
    assert {run.data for run in runs} == set(DATA)
    assert len({run.key for run in runs}) == len(runs) >= 60
    assert set(LIMITS_SET_ON) < set(DATA)


def test_recorded_runs_with_good_settings__are_not_called_collapsed():
    good = [run for run in RECORDED if run.contender in (DEFAULTS, RECIPE)]
    assert good
    assert not [run for run in good if run.state == COLLAPSED]


def test_recorded_runs_that_were_made_to_collapse__are_found():
    bad = [run for run in RECORDED if run.contender in ("rate x 30", "no EMA, no norms") and run.probe == FELL]
    assert len(bad) > 3
    assert not [run for run in bad if run.state not in ALARMS]
