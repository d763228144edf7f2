import pytest
from matplotlib.image import imread

from modeling_data2vec_generic.figures.curves import PANELS, plot_training, series

pytestmark = pytest.mark.fast

UNLABELLED = [
    {"step": 10, "loss": 1.0, "target_std": 0.9, "prediction_std": 0.1, "learning_rate": 1e-3, "ema_decay": 0.99},
    {"step": 10, "eval_loss": 0.9, "eval_target_std": 0.9, "eval_prediction_std": 0.2, "eval_effective_rank": 7.0},
    {"step": 20, "loss": 0.8, "target_std": 0.9, "prediction_std": 0.4, "learning_rate": 0.0, "ema_decay": 0.999},
    {"step": 20, "train_runtime": 3.0, "train_loss": 0.9},
]
LABELLED = [{"step": 0, "init_knn_accuracy": 0.4, "init_linear_accuracy": 0.5}, *UNLABELLED] + [
    {"step": 20, "eval_knn_accuracy": 0.7, "eval_linear_accuracy": 0.8}
]
HEALTH = {"health_rank_embeddings": 3.0, "health_rank_middle": 5.0, "health_rank_top": 9.0}
WHOLE = [*LABELLED, {"step": 10, **HEALTH}, {"step": 20, "samples_per_second": 100.0}]


def test_series__joins_the_initial_probe_to_the_later_ones():
    assert series(LABELLED, ("init_knn_accuracy", "eval_knn_accuracy")) == ([0, 20], [0.4, 0.7])


def test_series__the_mean_loss_of_the_run_is_no_point_of_the_curve():
    assert series(UNLABELLED, ("loss",)) == ([10, 20], [1.0, 0.8])


def test_plot_training__draws_nothing_of_an_empty_log(tmp_path):
    assert not plot_training([], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(
    ("log_history", "panels"),
    [(UNLABELLED[:1], 3), (LABELLED, 4), (WHOLE, len(PANELS))],
    ids=["training only", "labelled", "everything"],
)
def test_plot_training__has_a_panel_for_all_that_was_logged(log_history, panels, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("modeling_data2vec_generic.figures.curves.save", lambda figure, path: figures.append(figure))
    assert plot_training(log_history, tmp_path / "curves.png")
    titles = [axes.get_title() for axes in figures[0].axes]
    assert sum(title != "" for title in titles) == panels
    assert titles.count("") == 1  # the EMA decay, beside the learning rate
    assert all(axes.lines for axes in figures[0].axes)


def test_plot_training__leaves_a_light_page(tmp_path):
    assert plot_training(WHOLE, tmp_path / "figures" / "curves.png")
    path = tmp_path / "figures" / "curves.png"
    assert imread(path).shape[1] == 840
    assert path.stat().st_size < 100_000
