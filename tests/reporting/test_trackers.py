"""Pictures in trackers: with the real ones where they are installed, and with modules of the same calls."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from transformers import ProgressCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from modeling_data2vec_generic.reporting.trackers import is_tracked, log_pictures

pytestmark = pytest.mark.fast


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "masks.png")
    return tmp_path / "masks.png", pixels


def without_setting_up(kind):
    """A callback of a tracker that may not be installed."""
    return kind.__new__(kind)


def test_log_pictures__gives_tensorboard_pixels(picture):
    path, pixels = picture
    calls = []
    callback = without_setting_up(TensorBoardCallback)
    callback.tb_writer = SimpleNamespace(add_image=lambda *args, **kwargs: calls.append((args, kwargs)))
    log_pictures([ProgressCallback(), callback], {"masks": path}, 12)
    [((name, given, step), kwargs)] = calls
    assert (name, step, kwargs) == ("masks", 12, {"dataformats": "HWC"})
    assert (given == pixels).all()


@pytest.mark.parametrize(("kind", "module"), [(WandbCallback, "wandb"), (TrackioCallback, "trackio")])
def test_log_pictures__gives_files_to_trackers_that_take_them(kind, module, picture, monkeypatch):
    logged = []
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(Image=lambda path: ("image", path), log=logged.append))
    log_pictures([without_setting_up(kind)], {"masks": picture[0]}, 12)
    assert logged == [{"masks": ("image", str(picture[0])), "train/global_step": 12}]


def test_log_pictures__arrive_in_tensorboard(picture, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    callback = TensorBoardCallback(SummaryWriter(str(tmp_path / "events")))
    log_pictures([callback], {"masks": picture[0]}, 12)
    callback.tb_writer.close()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    [image] = events.Images("masks")
    assert (image.step, image.width, image.height) == (12, 7, 5)


@pytest.mark.parametrize("reporters", [None, [], ["mlflow"], ["mlflow", "wandb"], ["tensorboard"]])
def test_is_tracked(reporters):
    expected = bool(reporters) and reporters != ["mlflow"]
    assert is_tracked(SimpleNamespace(report_to=reporters)) is expected
