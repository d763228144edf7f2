"""The metric modules, loaded by `evaluate` from the repository, against formulas written out."""

import numpy as np
import pytest

from modeling_data2vec_generic.finetuning.metrics import load_metric

pytestmark = pytest.mark.fast

PREDICTED, TRUE = [0, 1, 2, 1, 0, 2, 1], [0, 1, 1, 1, 0, 2, 2]


def f1_of(number: int) -> float:
    hits = sum(p == t == number for p, t in zip(PREDICTED, TRUE, strict=True))
    return 2 * hits / (PREDICTED.count(number) + TRUE.count(number))


def test_accuracy():
    assert load_metric("accuracy").compute(predictions=PREDICTED, references=TRUE) == {"accuracy": 5 / 7}


def test_f1__macro_and_micro():
    f1 = load_metric("f1")
    macro = f1.compute(predictions=PREDICTED, references=TRUE, average="macro")["f1"]
    assert macro == pytest.approx(np.mean([f1_of(number) for number in range(3)]))
    assert f1.compute(predictions=PREDICTED, references=TRUE, average="micro")["f1"] == pytest.approx(5 / 7)


def test_f1__of_several_labels():
    f1 = load_metric("f1", "multilabel")
    result = f1.compute(predictions=[[1, 0], [1, 1]], references=[[1, 0], [0, 1]], average="micro")
    assert result["f1"] == pytest.approx(2 * 2 / (3 + 2))


def test_matthews_correlation__of_two_classes():
    predicted, true = [1, 1, 0, 0, 1], [1, 0, 0, 1, 1]
    result = load_metric("matthews_correlation").compute(predictions=predicted, references=true)
    assert result["matthews_correlation"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))


def test_correlations__of_numbers():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 10.0]
    assert load_metric("pearsonr").compute(predictions=x, references=y)["pearsonr"] == pytest.approx(
        np.corrcoef(x, y)[0, 1]
    )
    assert load_metric("spearmanr").compute(predictions=x, references=y)["spearmanr"] == pytest.approx(
        np.corrcoef([0, 1, 2, 3], [0, 2, 1, 3])[0, 1]
    )
    assert load_metric("pearsonr").compute(predictions=[1.0, 1.0], references=[1.0, 2.0]) == {"pearsonr": 0.0}


def test_error_rates__count_over_all_rows():
    given = {"predictions": ["the cat sat", "b"], "references": ["the cat sat down here", "a"]}
    assert load_metric("wer").compute(**given) == {"wer": pytest.approx(3 / 6)}
    assert load_metric("cer").compute(**given) == {"cer": pytest.approx(11 / 22)}
