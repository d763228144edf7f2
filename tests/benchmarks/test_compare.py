import json
import re

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, ViTConfig, ViTImageProcessorPil, ViTMAEConfig

from benchmarks.compare import __main__ as command
from benchmarks.compare import parquet, processes, report, rows
from benchmarks.compare.pace import measure, seconds_per_step
from benchmarks.compare.peers.images import cell_masks, new_mae, train_mae
from benchmarks.compare.table import Outcome, Run, Table
from benchmarks.compare.tables.images import ImageTable
from benchmarks.compare.training import CLOCK_NAME, Branches, plain_encoder
from modeling_data2vec_generic.modalities.vision.pixels import RandomResizedCrop

CONFIG = ViTConfig(
    image_size=8, patch_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
)
DECODER = {
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 8,
}


class Scores(Table):
    name = "scores"
    all_data = ("digits",)
    columns = {"linear": "linear", "finetuned": "fine-tuned"}
    drawn = "linear"

    def runs(self):
        budgets = ((None, "new weights"), (1, "data2vec"), (2, "data2vec"))
        return [Run("scores", "digits", name, seed, budget, {"lr": 1}) for budget, name in budgets for seed in (0, 1)]

    def perform(self, run, seconds_per_step, folder):
        raise NotImplementedError


@pytest.mark.fast
def test_data__that_are_not_fetched_are_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*glosses\.parquet.*fetch the data.*benchmarks/README\.md"):
        parquet.read(tmp_path / "glosses.parquet")


def a_row(run, **scores):
    return json.loads(json.dumps(rows.row_of(run, Outcome(10, 1.0, scores))))


@pytest.mark.fast
def test_rows__tell_which_runs_are_missing(tmp_path):
    runs = Scores().runs()
    for run in runs[:2]:
        rows.append(tmp_path / "rows.jsonl", a_row(run, linear=0.5))
    kept = rows.read(tmp_path / "rows.jsonl")
    assert rows.missing(runs, kept) == runs[2:]
    assert rows.of_runs(runs[1:], kept) == kept[1:]
    other = [Run("scores", "digits", "new weights", 0, None, {"lr": 2})]
    assert rows.missing(other, kept) == other


@pytest.mark.fast
def test_pace__is_measured_in_turns_and_once(tmp_path):
    runs = [Run("scores", "digits", name, seed, 60, {}) for name in ("a", "b") for seed in (0, 1)]
    order = []

    def practise(run, steps, folder):
        order.append(run.contender)
        return [9.0] * 4 + [1.0 if run.contender == "a" else 3.0] * (steps - 4)

    path = tmp_path / "pace.jsonl"
    assert seconds_per_step(path, runs[1], runs, practise) == 1.0
    assert order == ["a", "b"] * 3
    assert seconds_per_step(path, runs[2], runs, practise) == 3.0
    assert len(order) == 6
    assert measure([Run("scores", "digits", "new weights", 0, None, {})], practise) == {}


@pytest.mark.fast
def test_draw__has_limits_around_a_single_budget(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(report, "save", lambda figure, path: figures.append(figure))
    table = Scores()
    rows_of_one = [a_row(run, linear=0.5) for run in table.runs() if run.budget_s == 2]
    report.draw(table, rows_of_one, tmp_path / "figure.png")
    low, high = figures[0].axes[0].get_xlim()
    assert 1 < low < 2 < high < 4


@pytest.mark.fast
def test_draw__gives_a_contender_one_colour_for_all_data(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "save", lambda figure, path: drawn.append(figure))
    has = {"digits": ("data2vec", "MAE"), "glosses": ("MLM", "MAE")}
    runs = [Run("scores", data, name, 0, budget, {}) for data in has for name in has[data] for budget in (1, 2)]
    report.draw(Scores(), [a_row(run, linear=0.5) for run in runs], tmp_path / "figure.png")
    (figure,) = drawn
    colours = [{bar.get_label(): bar.lines[0].get_color() for bar in axes.containers} for axes in figure.axes]
    assert [tuple(found) for found in colours] == [has["digits"], has["glosses"]]
    assert colours[0]["MAE"] == colours[1]["MAE"]
    assert len({*colours[0].values(), *colours[1].values()}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["data2vec", "MAE", "MLM"]


@pytest.mark.fast
def test_draw_bars__has_each_contender_in_one_place_for_all_data(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(report, "save", lambda figure, path: figures.append(figure))
    there = [("digits", "data2vec"), ("digits", "MLM"), ("digits", "new weights"), ("emoji", "MLM")]
    found = [a_row(Run("scores", data, name, 0, 1, {}), linear=0.5) for data, name in there]
    report.draw_bars(Scores(), found, tmp_path / "figure.png")
    digits, emoji = figures[0].axes
    labels = [label.get_text() for label in digits.get_yticklabels()]
    assert labels == ["data2vec", "MLM", "new weights"]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in emoji.patches] == [labels.index("MLM")]
    assert digits.yaxis_inverted()
    assert emoji.yaxis_inverted()


@pytest.mark.fast
def test_report__has_means_with_intervals_between_the_markers(tmp_path):
    table = Scores()
    found = [a_row(run, linear=0.5 + 0.1 * run.seed) for run in table.runs()]
    text = report.placed(
        "a\n<!-- compare scores: begin -->\nold\n<!-- compare scores: end -->\nb", "scores", table.markdown(found, [])
    )
    assert text.startswith("a\n<!-- compare scores: begin -->\n\n| digits |")
    assert text.endswith("\n\n<!-- compare scores: end -->\nb")
    assert "old" not in text
    assert "| data2vec | 2 | 10 | 2 | 1 | 55.0% ± 63.5% | - |" in text
    table.draw(found, tmp_path / "figure.png")
    assert PIL.Image.open(tmp_path / "figure.png").size[0] == 840
    with pytest.raises(ValueError, match="add the lines"):
        report.placed("no markers", "scores", "")


@pytest.mark.fast
def test_search__names_what_each_try_changes():
    settings = [{"lr": 1, "batch": 8, "encoder": {"dropout": 0}}]
    settings += [{**settings[0], "lr": 2}, {**settings[0], "encoder": {"dropout": 3}, "masks": 4}]
    tries = [Run("scores", "digits", "data2vec", 0, 60, found) for found in settings]
    tries.append(Run("scores", "digits", "data2vec", 0, 600, settings[0]))
    found = [a_row(run, linear=0.1 * run.settings["lr"]) for run in tries]
    assert report.search_table(found, "digits", {"linear": "linear", "no": "other"}, "linear").splitlines() == [
        "| search on digits | CPU seconds | settings | linear |",
        "| --- | --- | --- | --- |",
        "| data2vec | 60 | lr=2 | 20.0% |",
        "| data2vec | 60 | begun with lr=1, dropout=0 | 10.0% |",
        "| data2vec | 60 | masks=4, dropout=3 | 10.0% |",
        "| data2vec | 600 | as begun | 10.0% |",
    ]


@pytest.mark.fast
def test_branches__share_a_trunk_that_grows(tmp_path):
    calls = []

    def train(folder, **arguments):
        calls.append((folder.name, arguments["max_steps"], arguments["resume_from_checkpoint"]))
        every = arguments.get("save_steps", arguments["max_steps"] + 1)
        for step in range(every, arguments["max_steps"] + 1, every):
            (folder / f"checkpoint-{step}").mkdir(parents=True, exist_ok=True)
            (folder / f"checkpoint-{step}" / CLOCK_NAME).touch()

    branches = Branches((20, 50), 0.1, tmp_path)
    branches.train(20, train)
    (tmp_path / "trunk" / "checkpoint-240").mkdir()  # cut off before it was whole
    branches.train(50, train)
    trunk = str(tmp_path / "trunk" / "checkpoint-{}")
    assert calls == [
        ("trunk", 160, None),
        ("20_s", 200, trunk.format(160)),
        ("trunk", 400, trunk.format(160)),
        ("50_s", 500, trunk.format(400)),
    ]


def test_peer__that_is_resumed_has_its_weights_and_its_clock(tmp_path):
    images = Dataset.from_dict({"number": [0] * 8}).with_transform(
        lambda found: {"image": [PIL.Image.new("RGB", (8, 8), (9 * n, 0, 0)) for n in range(len(found["number"]))]}
    )

    def train(folder, **arguments):
        torch.manual_seed(len(arguments))  # of other weights, if they were not loaded
        return train_mae(
            CONFIG,
            DECODER,
            mask_ratio=0.75,
            with_positions=True,
            images=images,
            processor=ViTImageProcessorPil(size={"height": 8, "width": 8}),
            crop=RandomResizedCrop(1.0, flip=False),
            folder=folder,
            use_cpu=True,
            per_device_train_batch_size=4,
            learning_rate=0.0,
            **arguments,
        )

    first = train(tmp_path / "a", max_steps=2, save_strategy="steps", save_steps=2)
    checkpoint = tmp_path / "a" / "checkpoint-2"
    second = train(tmp_path / "b", max_steps=3, resume_from_checkpoint=str(checkpoint))
    before, after = (AutoModel.from_pretrained(trained.encoder_dir).state_dict() for trained in (first, second))
    assert all(torch.equal(before[name], after[name]) for name in before if "pooler" not in name)
    assert second.steps == 3
    assert second.clock.seconds > json.loads((checkpoint / CLOCK_NAME).read_text())


@pytest.mark.fast
def test_mae__knows_positions_when_it_is_new():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = new_mae(ViTMAEConfig(image_size=8, patch_size=2, **sizes, **DECODER))
    for positions in (model.vit.embeddings.position_embeddings[0, 1:], model.decoder.decoder_pos_embed[0, 1:]):
        assert len(positions.unique(dim=0)) == 16
    for token in (model.vit.embeddings.cls_token, model.decoder.mask_token):
        assert 0 < token.std() < 0.1


@pytest.mark.fast
def test_plain_encoder__refuses_weights_that_do_not_fit():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="bias"):
        plain_encoder(layer, {"weight": torch.zeros(2, 2)})
    assert plain_encoder(layer, {"weight": torch.zeros(2, 2)}, ["bias"]).weight.sum() == 0


@pytest.mark.fast
def test_cell_masks__cover_whole_cells():
    np.random.seed(0)
    masks = cell_masks(3, side=8, cell=2, ratio=0.6).reshape(3, 4, 2, 4, 2)
    assert (masks.sum(dim=(2, 4)) % 4 == 0).all()
    assert masks.sum(dim=(1, 2, 3, 4)).tolist() == [40, 40, 40]


@pytest.mark.fast
def test_images__differ_in_the_method_alone():
    for data in ImageTable.all_data:
        runs = [run for run in ImageTable().runs() if run.data == data]
        for shared in ("encoder", "per_device_train_batch_size", "crop_scale_min", "horizontal_flip"):
            assert len({json.dumps(run.settings[shared]) for run in runs}) == 1, shared


@pytest.mark.fast
def test_images__say_how_far_data2vec_is_from_mae():
    table = ImageTable(["emoji"], seeds=[0, 1])
    scores = {
        "MAE": {120: 0.3, 300: 0.3, 600: 0.4, 1200: 0.5},
        "MAE without positions": {120: 0.3, 600: 0.35, 1200: 0.45},
        "data2vec 2.0": {120: 0.6, 300: 0.6, 600: 0.7, 1200: 0.8},
    }
    found = [a_row(run, linear=scores[run.contender][run.budget_s]) for run in table.runs() if run.contender in scores]
    tried = [a_row(run, linear=0.5, linear_of_teacher=0.4) for run in table.variants()[:2]]
    text = table.markdown(found, tried)
    assert (
        "+30.0 points from MAE's after 10 CPU minutes. MAE has 50.0% after 20, and data2vec 2.0 60.0% after 2." in text
    )
    assert "without positions, it is +35.0 points after 10; that has 45.0% after 20." in text
    assert "teachers are -10.0 points" in text
    assert "10 CPU minutes" not in table.markdown(found[:3], [])


@pytest.fixture
def few_images(tmp_path, monkeypatch):
    """A working folder with 300 images of noise in place of Fashion-MNIST."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 28, 28), dtype=np.uint8)
    columns = {"image": list(map(PIL.Image.fromarray, pixels)), "label": [str(number % 10) for number in range(300)]}
    Dataset.from_dict(columns).class_encode_column("label").to_parquet("data/fashion_mnist/train.parquet")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_command__makes_a_run_once_and_prints_its_table(few_images, monkeypatch, capsys):
    monkeypatch.setattr(command, "in_a_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(processes, "seconds_per_step", lambda *arguments: 0.1)
    words = "images --quick --data fashion_mnist --seeds 0 --budgets 2 --contender SimMIM".split()
    command.main(words)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| SimMIM | 2 | 20 |"))
    assert line.count("%") == 3
    made = rows.read(command.WORK / "quick/images/rows/images.jsonl")
    command.main(words)
    assert rows.read(command.WORK / "quick/images/rows/images.jsonl") == made
    assert len(made) == 1
    assert made[0]["cpu_s"] > 0


@pytest.mark.fast
@pytest.mark.parametrize("words", ["--contender MAE MEA", "--budgets 2 7", "--search --contender MEA"])
def test_command__names_what_a_choice_has(words, capsys):
    with pytest.raises(SystemExit):
        command.main(["images", *words.split()])
    assert re.search(
        r"images has no run with \[('MEA'|2.0, 7.0)\]. Choose among .*\b(MAE|120)\b", capsys.readouterr().err
    )


def test_images__data2vec_takes_steps_under_a_clock(few_images, tmp_path):
    table = ImageTable(["fashion_mnist"], seeds=[0], quick=True)
    run = next(run for run in table.runs() if run.contender == "data2vec 2.0")
    seconds = table.practise(run, 3, tmp_path / "output")
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert not (tmp_path / "output/figures").exists()
