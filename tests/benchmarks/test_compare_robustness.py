import json

import pytest

from benchmarks.compare import rows
from benchmarks.compare.table import Outcome, Run
from benchmarks.compare.tables.grids import ALL, CENTRE, ladders
from benchmarks.compare.tables.robustness import RobustnessTable, grid_table
from modeling_data2vec_generic import cli
from modeling_data2vec_generic.runs.pretraining import ARGUMENTS

UNTRAINED = {"linear": 0.5, "neighbours": 0.3}


def a_row(cell, seed, gained, health="healthy"):
    scores = {name: value + gained for name, value in UNTRAINED.items()}
    run = Run("robustness", "digits", cell, seed, 12, {})
    return json.loads(json.dumps(rows.row_of(run, Outcome(100, 12.3, scores, UNTRAINED, health, 1.0))))


@pytest.mark.fast
@pytest.mark.parametrize("data", ALL)
def test_cells__change_one_setting_around_the_recipe(data):
    small = ALL[data]
    centre = small.centre()
    flags = cli.flags_of_settings({**centre, "output_dir": "output/none", "max_steps": 1}, {}, "pretrain")
    cli.parse(flags.all, ARGUMENTS)  # all are flags, with values that can be used
    for cell, changes in small.cells().items():
        assert changes.keys() <= centre.keys(), cell
        assert (changes.items() <= centre.items()) == (cell == CENTRE), cell
    for setting, ladder in ladders(data).items():
        assert 0 < ladder.index(CENTRE) < len(ladder) - 1, f"{setting} is moved in one direction alone"


@pytest.mark.fast
def test_runs__have_all_seeds_as_far_as_one_step_from_the_centre():
    seeds = {}
    for run in RobustnessTable(["digits"], seeds=[0, 1]).runs():
        seeds.setdefault(run.contender, []).append(run.seed)
    near = {cell for cell, found in seeds.items() if found == [0, 1]}
    assert near == {
        CENTRE,
        *("learning rate: × 1/2", "learning rate: × 2", "batch: 16", "batch: 64"),
        *("EMA: .9 to .99", "EMA: .999 to .9999", "mask ratio: .6", "mask ratio: .85"),
    }
    assert all(seeds[cell] == [0] for cell in seeds.keys() - near)


@pytest.mark.fast
def test_runs__whose_rate_or_teacher_is_moved_have_the_pace_of_the_centre():
    table = RobustnessTable(["digits"], seeds=[0])
    runs = {run.contender: run for run in table.runs()}
    for cell, run in runs.items():
        alike = cell == CENTRE or cell.startswith(("learning rate", "EMA"))
        assert table.paced_by(run) == runs[CENTRE if alike else cell]


@pytest.mark.fast
def test_grid_table__has_gains_as_shares_of_the_centres():
    found = [a_row(CENTRE, 0, 0.08), a_row(CENTRE, 1, 0.12), a_row("batch: 512", 0, 0.02, "collapsed")]
    lines = grid_table("digits", found).splitlines()
    assert lines[2] == "| new weights | - | - | - | 50.0% | 30.0% | - | - |"
    assert "| 2 | 100 | 12 | 60.0% | 40.0% | 10.0 points ± 25.4 points | healthy |" in lines[3]
    assert lines[4] == "| batch: 512 | 1 | 100 | 12 | 52.0% | 32.0% | 25% | collapsed |"
    lines = grid_table("digits", [*found[:2], *(a_row("batch: 64", seed, 0.09) for seed in (0, 1))]).splitlines()
    assert lines[4] == "| batch: 64 | 2 | 100 | 12 | 59.0% | 39.0% | 90% | healthy |"
    lines = grid_table("digits", [a_row(CENTRE, 0, -0.01), a_row("batch: 512", 0, 0.02)]).splitlines()
    assert lines[3].endswith("| -1.0 points | healthy |")
    assert lines[4].endswith("| 2.0 points | healthy |")
    letters = {**a_row(CENTRE, 0, 0.0), "scores": {"linear": 0.2}, "untrained": {"linear": 0.05}}
    assert grid_table("fish_fillets", [letters]).splitlines()[3].endswith("| 20.0% | - | 15.0 points | healthy |")


def test_run__is_scored_beside_its_new_weights(tmp_path, monkeypatch):
    for name, value in {"WORK": tmp_path, "FOLDS": 2, "REPEATS": 1}.items():
        monkeypatch.setattr(f"benchmarks.compare.tables.grids.{name}", value)
    monkeypatch.setattr("modeling_data2vec_generic.runs.pretraining.pictures_of", lambda *args: None)
    table = RobustnessTable(["digits"], seeds=[0], quick=True)
    run = table.runs()[0]
    outcome = table.perform(run, 0.1, tmp_path / "run")
    assert outcome.steps == 10
    assert outcome.scores.keys() == outcome.untrained.keys() == {"linear", "neighbours"}
    assert outcome.scores != outcome.untrained
    assert table.untrained(run) == outcome.untrained
