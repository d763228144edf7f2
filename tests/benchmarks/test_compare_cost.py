"""The cost of steps: contenders are comparable, measurements are exact, and what is computed follows from them."""

from dataclasses import replace

import pytest
import torch

from benchmarks.cases import QUICK_CASES
from benchmarks.compare import rows
from benchmarks.compare.cost import clusters
from benchmarks.compare.cost.contenders import MAE, PEERS, changed, contenders, peer, speech, training
from benchmarks.compare.cost.growth import GROWTHS, Growth, base, fit, growth_costs
from benchmarks.compare.tables.cost import CostTable
from benchmarks.device import CPU
from benchmarks.memory import most_allocated

SMALL = {
    "vision": QUICK_CASES["images-64-quick"],
    "text": QUICK_CASES["text-quick"],
    "speech": changed(speech(QUICK_CASES["speech-quick"]), num_conv_pos_embedding_groups=4),
}


@pytest.mark.fast
@pytest.mark.parametrize("modality", SMALL)
def test_contenders__have_the_same_backbone_and_batch(modality):
    case = replace(SMALL[modality], num_masks=3)
    model, batch, mask = peer(PEERS[modality], case)
    encoder = model.base_model
    own = case.model("data2vec").encoder
    assert case.batch("data2vec")["mask"].shape[0] == len(next(iter(batch.values())))

    def blocks(module: torch.nn.Module) -> list[tuple[int, ...]]:
        return sorted(tuple(p.shape) for name, p in module.named_parameters() if "layer" in name and ".0." in name)

    assert blocks(own) == blocks(encoder)
    assert 0 < float(mask.float().mean()) < 1
    masks = [training(name, case, CPU).masks for name in contenders(case)]
    assert masks == [case.batch_size, 3 * case.batch_size, case.batch_size]


@pytest.mark.fast
@pytest.mark.parametrize("modality", SMALL)
def test_step__of_each_contender_changes_its_weights(modality):
    for name in contenders(SMALL[modality]):
        work = training(name, SMALL[modality], CPU)
        first = float(work.forward().detach())
        for _ in range(2):
            work.step()
        assert float(work.forward().detach()) != first
        assert work.trained <= work.weights


@pytest.mark.fast
def test_most_allocated__is_exact():
    def work() -> None:
        kept = torch.empty(2**20)
        torch.empty(2**21)  # freed at once
        del kept
        torch.empty(2**20)

    assert most_allocated(work, CPU) == pytest.approx(12.0, abs=0.01)  # MiB of float32


@pytest.mark.fast
def test_fit__finds_the_exponent_and_its_error():
    exact = fit((1, 2, 4, 8), [3 * x**1.5 for x in (1, 2, 4, 8)])
    assert exact.exponent == pytest.approx(1.5)
    assert exact.error == pytest.approx(0, abs=1e-6)
    assert fit((1, 2, 4), [1, 2, 5]).error > 0.05


def test_masks__cost_no_more_than_their_share():
    """All masks of a sample share the teacher: time and memory grow with their number at most in proportion."""
    start = replace(SMALL["vision"], batch_size=1)
    masks = next(growth for growth in GROWTHS if growth.name == "masks")
    few = Growth(masks.name, (2, 8), masks.case, masks.contenders)
    found = [growth_costs(few, start, 1, CPU)["data2vec2", value] for value in few.values]
    assert found[1].masks == 4 * found[0].masks
    assert found[0].operations < found[1].operations < 4 * found[0].operations
    assert found[0].activations < found[1].activations < 4.2 * found[0].activations


@pytest.mark.fast
def test_growths__vary_what_they_are_named_after():
    start = base(CPU)
    for growth in GROWTHS:
        first, last = (growth.case(start, growth.values[i]) for i in (0, -1))
        assert first != last
    longer = next(growth for growth in GROWTHS if growth.name == "positions").case(start, 1024)
    config = longer.encoder_config()
    assert (config.image_size // config.patch_size) ** 2 == 1024


@pytest.mark.fast
def test_projection__by_hand():
    step = clusters.Step("images", "data2vec2", samples=32, masks=16, seconds=0.1, tflop=10.0)
    network = clusters.Network(8, "a link", bytes_per_s=1e9)
    found = clusters.projection(step, clusters.Sizes(3 * 10**7, 10**7), loading=0.003, network=network)

    assert found.communication == pytest.approx(2 * 7 / 8 * 4e7 / 1e9)  # 70 ms
    assert found.state == 4 * 3 * 10**7 + 16 * 10**7
    assert found.efficiency == pytest.approx(0.1 / 0.17)
    assert found.samples == pytest.approx(8 * 32 / 0.17)
    assert found.masks == pytest.approx(16 * found.samples)
    assert found.pflops == pytest.approx(0.08 / 0.17)
    assert found.cores == pytest.approx(32 / 0.17 * 0.003)


@pytest.mark.fast
def test_measured_steps__are_those_of_the_readme():
    steps = clusters.measured_steps(clusters.README.read_text(encoding="utf-8"))

    assert {step.objective for step in steps} == {"data2vec", "data2vec2"}
    for step in steps:
        assert step.case.endswith("-base")
        assert (step.masks > 1) == (step.objective == "data2vec2")
        assert 0.01 < step.seconds < 1


@pytest.mark.fast
def test_page__has_the_table_that_its_rows_give():
    found = rows.read(rows.KEPT / "cost.jsonl")
    page = clusters.DOCUMENT.read_text(encoding="utf-8")

    assert clusters.written(found, page, clusters.README.read_text(encoding="utf-8")) == page


@pytest.mark.fast
def test_results__have_the_tables_of_the_rows():
    table = CostTable()
    found = rows.of_runs(table.runs(), rows.read(rows.KEPT / "cost.jsonl"))
    text = table.markdown(found, [])

    for contender in (MAE, "wav2vec 2.0", "data2vec 2.0"):
        assert contender in text
