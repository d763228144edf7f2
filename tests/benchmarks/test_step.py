"""The floor of the benchmark computes the same loss as the library, and its tables are complete."""

import pytest
import torch

from benchmarks.bare import BareBatch, BareLoop
from benchmarks.cases import OBJECTIVES, QUICK_CASES
from benchmarks.device import CPU, Device, operations
from benchmarks.memory import measure
from benchmarks.step import (
    LOSS_COLUMNS,
    MEMORY_COLUMNS,
    RATE_COLUMNS,
    SHARE_COLUMNS,
    STEP_COLUMNS,
    WAIT_COLUMNS,
    main,
)
from benchmarks.timing import DECAY, EXTRAS, PARTS, LibraryLoop, adamw, shares
from benchmarks.waits import counted_waits

NAMES = list(QUICK_CASES)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NAMES)
def test_bare_loop__computes_the_loss_of_the_library(name, objective):
    """In float32, and under autocast but for rounding: both round in the same places, or in a few others."""
    case = QUICK_CASES[name]
    model, batch = case.model(objective), case.batch(objective)
    own_batch = BareBatch.of(batch, model.config, "cpu")
    for device, tolerance in ((CPU, 1e-5), (Device("cpu", torch.bfloat16), 2e-3)):
        losses = []
        for loop, inputs in (
            (LibraryLoop(model, adamw(model), device), batch),
            (BareLoop(model, adamw(model), DECAY, device), own_batch),
        ):
            torch.manual_seed(1)
            losses.append(loop.loss(inputs).item())

        assert losses[0] == pytest.approx(losses[1], rel=tolerance)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", NAMES)
def test_bare_loop__moves_every_weight_like_the_library_and_never_waits(name, objective):
    case, weights = QUICK_CASES[name], []
    batch = case.batch(objective)
    for kind in (LibraryLoop, BareLoop):
        model = case.model(objective)
        with torch.no_grad():  # different from the student, so that an average and a copy differ
            for parameter in model.teacher.parameters():
                parameter.mul_(0.5)
        optimizer = adamw(model)
        model(**batch)
        torch.manual_seed(1)
        if kind is LibraryLoop:
            LibraryLoop(model, optimizer).step(batch)
        else:
            loop, own_batch = BareLoop(model, optimizer, DECAY), BareBatch.of(batch, model.config, "cpu")
            with counted_waits() as waits:
                loop.step(own_batch)
            assert waits == []
        weights.append(model.state_dict())

    library, bare = weights
    for key in library:
        torch.testing.assert_close(bare[key], library[key], rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


def test_operations__of_a_step_by_hand():
    """A convolution with groups, a linear layer and attention, forward and backward."""
    x = torch.randn(2, 8, 5, requires_grad=True)
    conv, linear = torch.nn.Conv1d(8, 8, 3, padding=1, groups=4), torch.nn.Linear(8, 8)

    def step():
        y = linear(conv(x).transpose(1, 2)).view(2, 5, 2, 4).transpose(1, 2)
        torch.nn.functional.scaled_dot_product_attention(y, y, y).sum().backward()

    positions, per_position = 2 * 5, 2 * 8 * (8 // 4) * 3 + 2 * 8 * 8
    pairs = 2 * 2 * 5 * 5  # samples, heads, queries, keys
    forward, backward = 2 * 2 * 4 * pairs, 5 * 2 * 4 * pairs  # two products, and five with the scores made again
    assert operations(step) == 3 * positions * per_position + forward + backward


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
    main(["--case", "images-64-quick", "--batch_size", "2", "--repeats", "1", "--device", "cpu"])

    lines = capsys.readouterr().out.splitlines()
    for columns in (STEP_COLUMNS, RATE_COLUMNS, SHARE_COLUMNS, MEMORY_COLUMNS, LOSS_COLUMNS):
        start = lines.index(f"| {' | '.join(columns)} |")
        for line, objective in zip(lines[start + 2 : start + 4], OBJECTIVES, strict=True):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == len(columns)
            assert cells[:2] == ["images-64-quick", objective]
    assert f"| {' | '.join(WAIT_COLUMNS)} |" in lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_main__says_in_a_line_that_there_is_no_gpu(capsys):
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])

    assert "torch sees no GPU" in capsys.readouterr().err


def test_main__refuses_an_unknown_case(capsys):
    with pytest.raises(SystemExit):
        main(["--case", "video"])

    assert "images-224-base" in capsys.readouterr().err
