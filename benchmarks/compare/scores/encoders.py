"""What an encoder is worth, frozen and fine-tuned, by the same code for all contenders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modeling_data2vec_generic import finetune
from modeling_data2vec_generic.evaluation.probe import knn_accuracy, linear_accuracy


def frozen_scores(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> dict[str, float]:
    """Accuracies on frozen features by the package's own classifiers: "linear" and "neighbours".

    Args:
        train_x, test_x: features (N, C) and (M, C).
        train_y, test_y: labels (N,) and (M,).
    """
    labelled = (train_x, train_y, test_x, test_y)
    return {"linear": linear_accuracy(*labelled), "neighbours": knn_accuracy(*labelled)}


def finetuned(encoder: Path, recipe: Mapping[str, Any], folder: Path, seed: int) -> dict[str, float]:
    """What the package's fine-tuning measures of a plain encoder with its processor or tokenizer.

    Args:
        encoder: folder that AutoModel loads.
        recipe: flags of `data2vec finetune`, without the encoder, the seed and the output.
        folder: where the run writes; one that is there is made anew.
        seed: of the choice of labelled rows, the head and the batches.

    Returns:
        The metrics by their names, such as "accuracy", without "eval_" in front.
    """
    run = finetune(
        {
            **recipe,
            "model_name_or_path": str(encoder),
            "output_dir": str(folder),
            "overwrite_output_dir": True,
            "seed": seed,
            "save_strategy": "no",
            "disable_tqdm": True,
        }
    )
    return {name.removeprefix("eval_"): value for name, value in run.metrics.items() if name.startswith("eval_")}
