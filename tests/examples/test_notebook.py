"""The notebook runs from its first cell to its last, with a short run, and its saved pictures are light."""

import json
from pathlib import Path

import matplotlib
import pytest

import modeling_data2vec_generic
from modeling_data2vec_generic.runs import pretraining

NOTEBOOK = Path(__file__).parents[2] / "examples" / "digits.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
SHORT = {"per_device_train_batch_size": 4, "probe_train_samples": 50, "probe_test_samples": 50, "use_cpu": True}


def of_two_steps(recipe: str, **settings: object) -> object:
    return pretraining.pretrain(recipe, **settings | SHORT | {"max_steps": 2})


def test_notebook__runs_and_draws_masks_colours_and_neighbours(tmp_path, monkeypatch):
    matplotlib.use("agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(modeling_data2vec_generic, "pretrain", of_two_steps)
    monkeypatch.setattr(pretraining, "pictures_of", lambda *_: None)
    names: dict[str, object] = {}
    try:
        for number, code in enumerate(CODE):
            exec(compile(code, f"cell {number}", "exec"), names)
        assert len(pyplot.get_fignums()) == 3
        assert all(any(axis.images for axis in pyplot.figure(number).axes) for number in pyplot.get_fignums())
    finally:
        pyplot.close("all")
    assert (tmp_path / "output" / "notebook" / "encoder" / "model.safetensors").is_file()


@pytest.mark.fast
def test_notebook__is_saved_with_its_pictures_and_without_logs():
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    assert NOTEBOOK.stat().st_size < 200_000
    assert not [output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"]
