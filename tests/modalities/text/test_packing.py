"""Rows fill sequences as whole documents, and each is masked as if it were alone."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities.text.collator import DataCollatorForData2VecText
from modeling_data2vec_generic.modalities.text.packing import _best_fit, _pieces
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.modalities.text.tokens import prepare_text

pytestmark = pytest.mark.fast

WORDS = ["red", "green", "blue", "teacher", "student", "mask", "layer", "norm"]
TEXTS = [" ".join(WORDS[(number + step) % 8] for step in range(2 + number * 7 % 23)) for number in range(60)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def packed(texts, tokenizer, **changes):
    rows = Dataset.from_dict({"text": texts, "sample_index": range(len(texts))})
    args = DataArguments(**{"dataset_name": "x", "packing": True, "max_seq_length": 40} | changes)
    return prepare_text(rows, tokenizer, args, "train")


def documents_of(sequences):
    for row in sequences:
        ends = np.cumsum(row["document_lengths"])
        for start, end in zip([0, *ends], ends, strict=False):
            yield row["input_ids"][start:end], row["special_tokens_mask"][start:end]


def test_packed__holds_every_row_once_as_the_tokenizer_encodes_it(tokenizer):
    sequences = packed([*TEXTS, "", None], tokenizer)
    found = sorted(ids for ids, _ in documents_of(sequences))
    assert found == sorted(tokenizer(text)["input_ids"] for text in TEXTS)
    assert all(mask == [1, *[0] * (len(ids) - 2), 1] for ids, mask in documents_of(sequences))
    lengths = [len(ids) for ids in sequences["input_ids"]]
    assert sequences["length"][:] == lengths == [sum(row) for row in sequences["document_lengths"]]
    assert max(lengths) <= 39
    assert sequences["sample_index"][:] == list(range(len(sequences)))


def test_packed__cuts_what_is_longer_than_a_sequence(tokenizer):
    text = " ".join(WORDS * 20)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = [ids[1:-1] for ids, _ in documents_of(packed([text, "red green"], tokenizer))]
    pieces.sort(key=len, reverse=True)
    assert [len(piece) for piece in pieces[:-2]] == [37] * (len(whole) // 37)
    by_start = {tuple(whole[start : start + len(piece)]) for piece in pieces for start in range(0, len(whole), 37)}
    assert set(map(tuple, pieces[:-1])) <= by_start
    assert sum(map(len, pieces)) == len(whole) + 2


def test_packed__leaves_out_rows_that_are_too_short_to_be_masked(tokenizer, transformers_log):
    assert sum(map(len, packed([*TEXTS, "red"], tokenizer)["document_lengths"])) == len(TEXTS)
    assert "row 60: too short" in transformers_log.text


def test_packed__says_how_much_is_padding(tokenizer, transformers_log):
    transformers_log.set_level("INFO", logger="modeling_data2vec_generic")
    sequences = packed(TEXTS * 20, tokenizer, max_seq_length=128)
    padding = 1 - sum(sequences["length"]) / (len(sequences) * 128)
    assert padding < 0.02
    assert f"{len(sequences)} sequences of 128 tokens, {padding:.1%} of which are padding" in transformers_log.text


def test_packed__needs_room_and_is_not_line_by_line(tokenizer):
    with pytest.raises(ValueError, match="max_seq_length=6 leaves room for 3 tokens .* --packing needs 4"):
        packed(TEXTS, tokenizer, max_seq_length=6)
    with pytest.raises(ValueError, match="packing puts several rows into a sequence, and line_by_line one"):
        DataArguments(packing=True, line_by_line=True)


def test_pieces__cover_their_rows_and_none_is_too_short():
    rows = np.random.default_rng(0).integers(3, 60, 200)
    starts, sizes = _pieces(rows, 11, 3)
    assert np.array_equal(
        np.repeat(1, rows.sum()), np.bincount(np.concatenate([*map(np.arange, starts, starts + sizes)]))
    )
    assert sizes.min() >= 3
    assert sizes.max() == 11


def test_best_fit__is_that_of_its_definition():
    lengths = np.random.default_rng(0).integers(1, 30, 300)
    room: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = [place for place in room if place >= length]
        if fitting:
            room.remove(min(fitting))
        room.append((min(fitting) if fitting else 31) - length)
    used = np.bincount(_best_fit(lengths, 31), weights=lengths)
    assert sorted(31 - used) == sorted(room)


# --- batches


def collator(tokenizer, **changes):
    settings = {"mask": MaskSampler("random", 0.4), "num_masks": 3, "packed_length": 40}
    return DataCollatorForData2VecText(tokenizer, **settings | changes)


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches__mask_each_document_as_if_it_were_alone(tokenizer, side):
    sequences = packed(TEXTS, tokenizer)
    tokenizer.padding_side = side
    batch = collator(tokenizer)(sequences.select(range(6)).to_list())
    tokenizer.padding_side = "right"
    assert batch["input_ids"].shape == batch["document_ids"].shape == (6, 40)
    assert torch.equal(batch["document_ids"] > 0, batch["attention_mask"] == 1)
    special = torch.isin(batch["input_ids"], torch.tensor(tokenizer.all_special_ids))
    assert not (batch["mask"] & special.unsqueeze(1)).any()
    for row, lengths in enumerate(sequences[:6]["document_lengths"]):
        for number, length in enumerate(lengths, start=1):
            own = batch["document_ids"][row] == number
            assert own.sum() == length
            assert batch["mask"][row, :, own].sum(-1).tolist() == [MaskSampler("random", 0.4).count(length - 2)] * 3
    assert batch["mask_positions"].most_documents == batch["document_ids"].max()


def test_batches__do_not_depend_on_the_batch_and_differ_by_document_and_epoch(tokenizer):
    rows = packed(["red green blue teacher student mask"] * 12, tokenizer).to_list()
    make = collator(tokenizer, mask=MaskSampler("random", 0.5))
    both, second = make(rows[:2]), make(rows[1:2])
    assert torch.equal(both["mask"][1:], second["mask"])
    of_documents = both["mask"][0, 0][both["document_ids"][0] > 0].unflatten(0, (-1, 8))
    assert len(of_documents.unique(dim=0)) > 1
    make.set_epoch(1)
    assert not torch.equal(make(rows[:2])["mask"], both["mask"])


def test_batches__without_masks_are_as_short_as_they_can_be(tokenizer):
    rows = packed(["red green"] * 3, tokenizer).to_list()
    assert collator(tokenizer).plain(rows)["input_ids"].shape == (1, 12)
