"""The floor of the benchmark computes the same loss as the library, and its tables are complete."""

import pytest
import torch

from benchmarks.bare import BareLoop
from benchmarks.cases import OBJECTIVES, QUICK_CASES
from benchmarks.memory import measure
from benchmarks.step import MEMORY_COLUMNS, SHARE_COLUMNS, STEP_COLUMNS, losses, main
from benchmarks.timing import DECAY, EXTRAS, PARTS, LibraryLoop, adamw, shares

NAMES = list(QUICK_CASES)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NAMES)
def test_bare_loop__computes_the_loss_of_the_library(name, objective):
    own, bare = losses(QUICK_CASES[name], objective)

    assert own == pytest.approx(bare, rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NAMES)
def test_bare_loop__moves_every_weight_like_the_library(name, objective):
    case, weights = QUICK_CASES[name], []
    for loop in (LibraryLoop, BareLoop):
        model = case.model(objective)
        with torch.no_grad():  # different from the student, so that an average and a copy differ
            for parameter in model.teacher.parameters():
                parameter.mul_(0.5)
        batch, optimizer = case.batch(objective), adamw(model)
        model(**batch)
        torch.manual_seed(1)
        (loop(model, optimizer) if loop is LibraryLoop else loop(model, optimizer, DECAY)).step(batch)
        weights.append(model.state_dict())

    library, bare = weights
    for key in library:
        torch.testing.assert_close(bare[key], library[key], rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


def test_shares__make_up_the_step():
    found = shares(QUICK_CASES["images-64-quick"], "data2vec2", repeats=1)

    assert set(found) == {*PARTS, *EXTRAS}
    assert sum(found[part] for part in PARTS) == pytest.approx(1.0)
    assert all(share > 0 for share in found.values())


def test_memory__counts_what_the_decoder_keeps():
    first, second = (measure(QUICK_CASES["images-64-quick"], objective) for objective in OBJECTIVES)

    assert first["checkpointed"] == 0  # a linear predictor has no layers to recompute
    assert 0 < second["checkpointed"] < second["predictor"]


def test_memory__with_gradient_checkpointing_the_decoder_keeps_less():
    plain, checkpointed = (measure(QUICK_CASES["images-64-quick"], "data2vec2", flag) for flag in (False, True))

    assert checkpointed["predictor"] < 0.6 * plain["predictor"]


def test_main__prints_whole_tables(capsys):
    main(["--case", "images-64-quick", "--batch_size", "2", "--repeats", "1"])

    lines = capsys.readouterr().out.splitlines()
    for columns in (STEP_COLUMNS, SHARE_COLUMNS, MEMORY_COLUMNS):
        start = lines.index(f"| {' | '.join(columns)} |")
        for line, objective in zip(lines[start + 2 : start + 4], OBJECTIVES, strict=True):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == len(columns)
            assert cells[:2] == ["images-64-quick", objective]


def test_main__refuses_an_unknown_case(capsys):
    with pytest.raises(SystemExit):
        main(["--case", "video"])

    assert "images-224-base" in capsys.readouterr().err
