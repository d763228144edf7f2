import pytest
from matplotlib.image import imread

from modeling_data2vec_generic.figures.curves import plot_training, series

pytestmark = pytest.mark.fast

UNLABELLED = [
    {"step": 10, "loss": 1.0, "target_std": 0.9, "prediction_std": 0.1, "learning_rate": 1e-3},
    {"step": 10, "eval_loss": 0.9, "eval_target_std": 0.9, "eval_prediction_std": 0.2, "eval_effective_rank": 7.0},
    {"step": 20, "loss": 0.8, "target_std": 0.9, "prediction_std": 0.4, "learning_rate": 0.0},
    {"step": 20, "train_runtime": 3.0, "train_loss": 0.9},
]
LABELLED = [{"step": 0, "init_knn_accuracy": 0.4, "init_linear_accuracy": 0.5}, *UNLABELLED] + [
    {"step": 20, "eval_knn_accuracy": 0.7, "eval_linear_accuracy": 0.8}
]


def test_series__joins_the_initial_probe_to_the_later_ones():
    assert series(LABELLED, ("init_knn_accuracy", "eval_knn_accuracy")) == ([0, 20], [0.4, 0.7])


def test_series__the_mean_loss_of_the_run_is_no_point_of_the_curve():
    assert series(UNLABELLED, ("loss",)) == ([10, 20], [1.0, 0.8])


@pytest.mark.parametrize(
    ("log_history", "names"),
    [([], []), (UNLABELLED, ["loss", "spread", "rank"]), (LABELLED, ["loss", "spread", "rank", "probe"])],
    ids=["nothing logged", "unlabelled", "labelled"],
)
def test_plot_training__one_readable_file_per_figure_with_values(log_history, names, tmp_path):
    paths = plot_training(log_history, tmp_path / "figures")
    assert paths == [tmp_path / "figures" / f"{name}.png" for name in names]
    assert all(imread(path)[..., :3].std() > 0 for path in paths)
