"""The positions that travel with a batch, and where they travel."""

import pickle

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from modeling_data2vec_generic.mask_positions_data2vec_generic import MaskPositions

pytestmark = pytest.mark.fast

MASK = torch.tensor([[[1, 0, 0, 1, 0]], [[0, 1, 0, 0, 0]]]).bool()
REAL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()


def test_of__a_row_with_fewer_visible_positions_reads_padding():
    positions = MaskPositions.of(MASK, REAL)

    assert positions.shape == (2, 1, 5)
    assert positions.masked.tolist() == [0, 3, 6]
    assert positions.read.tolist() == [[1, 2, 4], [0, 2, 3]]


@pytest.mark.parametrize(
    ("mask", "real", "message"),
    [
        (MASK, None, "fewer positions visible than others"),
        (torch.ones(1, 2, 3).bool(), None, "no visible position"),
        (torch.tensor([[[1, 1, 0]]]).bool(), torch.tensor([[True, True, False]]), "no visible position"),
    ],
)
def test_read__says_why_a_student_cannot_read_visible_positions_only(mask, real, message):
    positions = MaskPositions.of(mask, real)

    with pytest.raises(ValueError, match=message):
        _ = positions.read


def test_positions__go_where_tensors_go(monkeypatch):
    positions = MaskPositions.of(MASK, REAL)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 0)  # it needs an accelerator
    copies = [pickle.loads(pickle.dumps(positions)), pin_memory({"mask_positions": positions})["mask_positions"]]

    for copy in copies:
        assert copy.shape == positions.shape
        for name in ("masked", "visible", "real"):
            assert torch.equal(getattr(copy, name), getattr(positions, name))
    moved = MaskPositions.of(MASK).to("meta", non_blocking=True)
    assert moved.masked.is_meta
    assert moved.visible is moved.real is None


def test_positions__belong_to_the_mask_that_they_were_made_of():
    mask = MASK.clone()
    positions = MaskPositions.of(mask)
    sent = pickle.loads(pickle.dumps(positions))

    assert positions.belong_to(mask)
    assert not positions.belong_to(mask.clone())
    assert sent.belong_to(mask.clone())
    assert not sent.belong_to(mask[:1])

    mask[0, 0, 1] = True

    assert not positions.belong_to(mask)
