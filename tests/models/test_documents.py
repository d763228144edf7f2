"""Documents that share a sequence: student, teacher, targets, decoder and loss are those of each document alone."""

import pytest
import torch
from torch import Tensor

from benchmarks.waits import counted_waits
from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.documents_data2vec_generic import places_in_documents, spread_out
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError
from modeling_data2vec_generic.mask_positions_data2vec_generic import MaskPositions
from modeling_data2vec_generic.objective_data2vec_generic import normalize

from ..tiny_encoders import TINY

# Of two sequences of 13 positions; the second ends with padding.
SIZES = [[5, 2, 6], [7, 4]]
LENGTH = 13
MASK_TOKEN = 4


def model_of(name: str, attention: str | None = None, **settings) -> Data2VecGenericForPreTraining:
    torch.manual_seed(0)
    options = {} if attention is None else {"attn_implementation": attention}
    config = Data2VecGenericConfig(
        **{
            "predictor": "conv",
            "target_source": "block",
            "target_layer_norms": ["instance"],
            "decoder_dim": 32,
            "decoder_layers": 3,
            "decoder_kernel_size": 4,
            "decoder_groups": 4,
            "mask_noise_std": 0.0,
        }
        | settings
    )
    return Data2VecGenericForPreTraining(config, TINY[name].encoder(**options)).eval()


def packed_batch(num_masks: int = 2) -> dict[str, Tensor]:
    """Two sequences, of three documents and of two; in each document some positions are masked."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (2, LENGTH), generator=generator)
    documents = torch.zeros(2, LENGTH, dtype=torch.long)
    mask = torch.zeros(2, num_masks, LENGTH, dtype=torch.bool)
    for row, sizes in enumerate(SIZES):
        start = 0
        for number, size in enumerate(sizes, start=1):
            documents[row, start : start + size] = number
            for one in range(num_masks):
                mask[row, one, start + torch.randperm(size, generator=generator)[: size // 2]] = True
            start += size
    real = (documents > 0).long()
    student = ids.unsqueeze(1).masked_fill(mask, MASK_TOKEN)
    return {
        "input_ids": ids * real,
        "attention_mask": real,
        "document_ids": documents,
        "mask": mask,
        "student_input_ids": student,
    }


def alone(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Each document as a batch of one."""
    found = []
    for row, sizes in enumerate(SIZES):
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            found.append(
                {
                    "input_ids": batch["input_ids"][row : row + 1, part],
                    "attention_mask": torch.ones(1, size, dtype=torch.long),
                    "mask": batch["mask"][row : row + 1, :, part],
                    "student_input_ids": batch["student_input_ids"][row : row + 1, :, part],
                }
            )
            start += size
    return found


def in_order_of_masks(parts: list[Tensor], batch: dict[str, Tensor]) -> Tensor:
    """What documents alone give, (n, C) each for all of their masks, in the order of the packed batch."""
    num_masks = batch["mask"].shape[1]
    rows = iter(parts)
    ordered = []
    for sizes in SIZES:
        documents = [next(rows).chunk(num_masks) for _ in sizes]
        ordered += [document[one] for one in range(num_masks) for document in documents]
    return torch.cat(ordered)


# Positions that begin at 0, or behind the index of padding; rotary, with local attention; relative, in a mask that
# multiplies or is added to a bias.
STUDENTS = [
    ("bert", "mask_token", "sdpa"),
    ("roberta", "visible", "eager"),
    ("modernbert", "visible", "sdpa"),
    ("deberta-v2", "visible", "eager"),
    ("t5", "mask_token", "eager"),
]


@pytest.mark.parametrize(("name", "student_input", "attention"), STUDENTS)
def test_packed__equals_each_document_alone(name, student_input, attention):
    model = model_of(name, attention, student_input=student_input)
    batch = packed_batch()
    if student_input == "visible":
        del batch["student_input_ids"]

    def read(inputs):
        return inputs if student_input == "mask_token" else {k: v for k, v in inputs.items() if "student" not in k}

    with torch.no_grad():
        output = model(**batch)
        parts = [model(**read(one)) for one in alone(packed_batch())]
    for name in ("predictions", "targets"):
        expected = in_order_of_masks([getattr(part, name) for part in parts], batch)
        assert (getattr(output, name) - expected).abs().max() < 1e-5 * expected.abs().max()
    total = sum(part.loss * part.num_masked for part in parts) / sum(part.num_masked for part in parts)
    torch.testing.assert_close(output.loss, total, rtol=1e-5, atol=0)


def test_packed__never_waits_and_is_the_same_with_positions_of_the_collator():
    model, batch = model_of("bert", "sdpa", student_input="visible"), packed_batch()
    del batch["student_input_ids"]
    expected = model(**batch)  # the first batch may wait
    positions = MaskPositions.of(batch["mask"], batch["document_ids"] > 0, batch["document_ids"])
    with counted_waits() as waits:
        output = model(**batch, mask_positions=positions)
        output.loss.backward()
    assert waits == []
    assert torch.equal(output.predictions, expected.predictions)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bart", "numbers the positions of a whole sequence, and takes no position_ids"),
        ("convbert", "what it makes of a document in a packed sequence is not what it makes of it alone"),
        ("fnet", "its blocks take no attention_mask"),
        ("vit", "does not read a sequence of tokens"),
    ],
)
def test_packing__that_an_encoder_cannot_do_is_refused(name, reason):
    with pytest.raises(UnsupportedBackboneError, match=rf"model type '{name}'.*{reason}.*Leave --packing out"):
        model_of(name, predictor="linear").require_documents()


def test_packing__needs_an_attention_that_takes_a_mask():
    model = model_of("bert")
    model.encoder.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnsupportedBackboneError, match="'flash_attention_2' takes no mask of pairs"):
        model.require_documents()


def test_places__begin_anew_in_each_document():
    documents = torch.tensor([[1, 1, 1, 2, 3, 3, 0, 0]])
    assert places_in_documents(documents).tolist() == [[0, 1, 2, 0, 0, 1, 0, 1]]


def test_spread_out__leaves_gaps_between_documents_and_puts_padding_last():
    documents = torch.tensor([[1, 1, 2, 2, 2, 3], [0, 0, 1, 1, 2, 2]])
    places, length = spread_out(documents, most=3, gap=2)
    assert (places[0].tolist(), length) == ([0, 1, 4, 5, 6, 9], 6 + 8 * 2 + 1)
    assert places[1].tolist() == [22, 22, 2, 3, 6, 7]


def test_normalize__takes_each_document_alone():
    x, documents = torch.randn(2, 6, 5), torch.tensor([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0]])
    found = normalize(x, "instance", documents > 0, documents)
    for row, start, end in ((0, 0, 2), (0, 2, 5), (1, 0, 4)):
        expected = normalize(x[row : row + 1, start:end], "instance")
        torch.testing.assert_close(found[row : row + 1, start:end], expected)
