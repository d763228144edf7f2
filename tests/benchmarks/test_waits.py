"""Each kind of wait is counted once, with the line of its caller, and what does not wait is not."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks.waits import counted_waits

pytestmark = pytest.mark.fast

X = torch.arange(6.0)
BOOL = X > 2
WAITS = {
    "item": ("_local_scalar_dense", lambda: X[0].item()),
    "bool": ("_local_scalar_dense", lambda: bool(BOOL.any())),
    "float": ("_local_scalar_dense", lambda: float(X.sum())),
    "scalar tolist": ("tolist", lambda: X.sum().tolist()),
    "vector tolist": ("tolist", lambda: X.tolist()),
    "numpy": ("numpy", lambda: X.numpy()),
    "array": ("__array__", lambda: np.asarray(X)),
    "cpu": ("cpu", lambda: X.cpu()),
    "to cpu": ("to", lambda: X.to("cpu")),
    "to device cpu": ("to", lambda: X.to(device="cpu")),
    "nonzero": ("nonzero", lambda: BOOL.nonzero()),
    "where": ("nonzero", lambda: torch.where(BOOL)),
    "masked_select": ("masked_select", lambda: X.masked_select(BOOL)),
    "unique": ("_unique2", lambda: X.unique()),
    "equal": ("equal", lambda: torch.equal(X, X + 1)),
    "index": ("index", lambda: X[BOOL]),
    "index with uint8": ("index", lambda: torch.ops.aten.index(X, [BOOL.to(torch.uint8)])),
    "index_put_": ("index_put_", lambda: X.clone().__setitem__(BOOL, 0)),
    "list index": ("__getitem__", lambda: X[[0, 2]]),
    "0-d index": ("_local_scalar_dense", lambda: X[torch.tensor(2)]),
    "repeat_interleave": ("repeat_interleave", lambda: X.repeat_interleave(torch.tensor([1, 2, 1, 1, 1, 1]))),
    "tensor": ("tensor", lambda: torch.tensor(1.0, device=X.device)),
    "as_tensor": ("as_tensor", lambda: torch.as_tensor([1.0], device=X.device)),
    "new_tensor": ("new_tensor", lambda: X.new_tensor([1.0])),
    "split": ("tolist", lambda: X.split(torch.tensor([2, 4]).tolist())),
}
NO_WAITS = {
    "index": lambda: X[torch.tensor([0, 2])],
    "slice": lambda: X[1:3],
    "masked_fill_": lambda: X.clone().masked_fill_(BOOL, 0),
    "where": lambda: torch.where(BOOL, X, 0),
    "repeat_interleave": lambda: X.repeat_interleave(2, 0),
    "known size": lambda: X.repeat_interleave(torch.tensor([1, 2, 1, 1, 1, 1]), output_size=7),
    "host tensor": lambda: torch.tensor([1.0]),
    "device": lambda: X.to(X.device),
    "dtype": lambda: X.to(torch.float64),
    "length": lambda: len(X),
    "loader without workers": lambda: list(DataLoader([1, 2], collate_fn=lambda rows: torch.tensor(rows).nonzero())),
}


@pytest.mark.parametrize("name", WAITS)
def test_counted_waits__counts_each_kind_once_with_its_line(name):
    operation, work = WAITS[name]

    with counted_waits() as waits:
        work()

    line = work.__code__.co_firstlineno
    assert waits == [(operation, f"tests/benchmarks/test_waits.py:{line}")]


@pytest.mark.parametrize("name", NO_WAITS)
def test_counted_waits__does_not_count_what_goes_on(name):
    with counted_waits() as waits:
        NO_WAITS[name]()

    assert waits == []


def test_counted_waits__sees_the_backward_pass():
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    loss = Reads.apply(X.clone().requires_grad_()).sum()

    with counted_waits() as waits:
        loss.backward()

    assert [wait.operation for wait in waits] == ["_local_scalar_dense"]
    assert waits[0].place.startswith("tests/benchmarks/test_waits.py:")
