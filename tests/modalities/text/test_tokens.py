"""Tokenizers are trained and checked, and rows are packed into sequences or kept line by line."""

import pickle

import pandas
import pytest
import torch
from datasets import Dataset
from packaging.version import Version
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import load_raw_datasets
from modeling_data2vec_generic.masking.sampler import MaskSampler
from modeling_data2vec_generic.modalities.text.collator import DataCollatorForData2VecText
from modeling_data2vec_generic.modalities.text.packing import Frame
from modeling_data2vec_generic.modalities.text.tokenizer import check_tokenizer, tokenizer_trained_on, train_tokenizer
from modeling_data2vec_generic.modalities.text.tokens import prepare_labelled_lines, prepare_text, sequence_length
from modeling_data2vec_generic.versions import DATASETS

pytestmark = pytest.mark.fast

ONE_KEY_PER_TOKENIZER = pytest.mark.skipif(
    DATASETS < Version("4.7"), reason="a tokenizer that has cut text has another key in the cache of datasets"
)
WORDS = ["red", "green", "blue", "teacher", "student", "mask", "layer", "norm"]
TEXTS = [" ".join(WORDS[(number + step) % 8] for step in range(1 + number % 8)) for number in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def rows(texts, **columns):
    return Dataset.from_dict({"text": texts, "sample_index": list(range(len(texts))), **columns})


def without_specials(dataset):
    return [
        [token for token, special in zip(row["input_ids"], row["special_tokens_mask"], strict=True) if not special]
        for row in dataset
    ]


# Tokenizer


def test_train_tokenizer__reloads_and_knows_every_character(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "red Größe 漢字 🙂"
    ids = again(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"]
    assert again.unk_token_id not in ids
    assert again.decode(ids, skip_special_tokens=True).strip() == text
    assert (ids[0], ids[-1]) == (again.cls_token_id, again.sep_token_id)
    assert again.mask_token_id is not None
    assert again.pad_token_id == 0


def test_train_tokenizer__same_texts_same_tokenizer(tokenizer):
    again = train_tokenizer(iter(TEXTS), 300)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert 261 < len(again) <= 300


def test_train_tokenizer__first_word_has_the_token_of_later_ones(tokenizer):
    ids = tokenizer("teacher teacher", add_special_tokens=False)["input_ids"]
    assert ids[: len(ids) // 2] == ids[len(ids) // 2 :]


def test_tokenizer_trained_on__is_trained_once(tmp_path, monkeypatch):
    pandas.DataFrame({"text": [*TEXTS, None, ""], "other": range(42)}).to_parquet(tmp_path / "x.parquet")
    args = DataArguments(train_file=str(tmp_path / "x.parquet"))
    first = tokenizer_trained_on(load_raw_datasets(args, "text", validation=False)["train"], 300)
    assert first.get_vocab() == train_tokenizer(TEXTS, 300).get_vocab()
    with pytest.raises(ValueError, match="tokenizer_vocab_size=200 is below 261"):
        tokenizer_trained_on(load_raw_datasets(args, "text", validation=False)["train"], 200)
    monkeypatch.setattr(
        "modeling_data2vec_generic.modalities.text.tokenizer.train_tokenizer", lambda *_: pytest.fail("trained again")
    )
    again = tokenizer_trained_on(load_raw_datasets(args, "text", validation=False)["train"], 300)
    assert again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str()


def test_train_tokenizer__vocabulary_without_room():
    with pytest.raises(ValueError, match="tokenizer_vocab_size=200 is below 261"):
        train_tokenizer(TEXTS, 200)


def test_train_tokenizer__no_text():
    with pytest.raises(ValueError, match="every row is empty"):
        train_tokenizer(["", "  ", None], 300)


def test_tokenizer__without_a_token_for_padding(tokenizer):
    lacking = pickle.loads(pickle.dumps(tokenizer))
    lacking.pad_token = None
    with pytest.raises(ValueError, match=r"has no pad token.*--train_tokenizer"):
        prepare_text(rows(TEXTS), lacking, DataArguments(max_seq_length=16), "train")


def test_tokenizer__needs_a_mask_token_where_it_is_asked_for(tokenizer):
    lacking = pickle.loads(pickle.dumps(tokenizer))
    lacking.mask_token = None
    check_tokenizer(tokenizer, ("mask", "pad"))
    with pytest.raises(ValueError, match=r"has no mask token.*--train_tokenizer"):
        check_tokenizer(lacking, ("mask", "pad"))
    assert len(prepare_text(rows(TEXTS), lacking, DataArguments(max_seq_length=16), "train"))


# Length


def test_sequence_length__default_and_limits(tokenizer):
    assert sequence_length(tokenizer, DataArguments()) == 512
    assert sequence_length(tokenizer, DataArguments(max_seq_length=4)) == 4
    with pytest.raises(ValueError, match="max_seq_length=3 is too short for 2 special tokens"):
        sequence_length(tokenizer, DataArguments(max_seq_length=3))
    short = pickle.loads(pickle.dumps(tokenizer))
    short.model_max_length = 64
    assert sequence_length(short, DataArguments()) == 64
    with pytest.raises(ValueError, match="max_seq_length=65 is above the tokenizer's limit of 64"):
        sequence_length(short, DataArguments(max_seq_length=65))


# Packed


def test_packed__full_sequences_that_lose_only_the_end(tokenizer):
    dataset = prepare_text(rows(TEXTS), tokenizer, DataArguments(max_seq_length=16), "train")
    assert {len(row["input_ids"]) for row in dataset} == {16}
    assert {(row["special_tokens_mask"][0], row["special_tokens_mask"][-1]) for row in dataset} == {(1, 1)}
    assert {(row["input_ids"][0], row["input_ids"][-1]) for row in dataset} == {
        (tokenizer.cls_token_id, tokenizer.sep_token_id)
    }
    everything = [token for text in TEXTS for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    packed = [token for content in without_specials(dataset) for token in content]
    assert packed == everything[: len(packed)]
    assert len(everything) - len(packed) < 14
    assert dataset["sample_index"][:] == list(range(len(dataset)))


def test_packed__has_a_separator_between_two_rows_and_none_elsewhere(tokenizer):
    dataset = prepare_text(rows(TEXTS), tokenizer, DataArguments(max_seq_length=16), "train")
    assert dataset[0]["input_ids"][1] != tokenizer.sep_token_id
    # Between two separators is a whole row, or the remainder of a row that was cut at the end of a sequence.
    whole = {tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS}
    for row in dataset:
        content = row["input_ids"][1:-1]
        separators = [place for place, token in enumerate(content) if token == tokenizer.sep_token_id]
        assert [place for place, special in enumerate(row["special_tokens_mask"][1:-1]) if special] == separators
        assert 0 not in separators
        pieces = [tuple(content[a + 1 : b]) for a, b in zip(separators, separators[1:], strict=False)]
        assert set(pieces) <= whole
    assert sum(row["input_ids"][1:-1].count(tokenizer.sep_token_id) for row in dataset) > len(dataset)


@pytest.mark.parametrize(("sep", "eos", "separator"), [("[SEP]", None, "[SEP]"), (None, "[CLS]", "[CLS]")])
def test_packed__is_separated_by_the_tokenizers_own_token(tokenizer, sep, eos, separator):
    other = pickle.loads(pickle.dumps(tokenizer))
    other.sep_token, other.eos_token = sep, eos
    dataset = prepare_text(rows(["red", "blue"] * 9), other, DataArguments(max_seq_length=8), "train")
    assert other.convert_ids_to_tokens(dataset[0]["input_ids"])[2::2] == [separator] * 3


def test_packed__of_a_tokenizer_without_any_separator_is_joined_and_says_so(tokenizer, transformers_log):
    lacking = pickle.loads(pickle.dumps(tokenizer))
    lacking.sep_token = None
    transformers_log.set_level("INFO", logger="modeling_data2vec_generic")
    dataset = prepare_text(rows(["red", "blue"] * 9), lacking, DataArguments(max_seq_length=8), "train")
    assert sum(dataset[0]["special_tokens_mask"]) == 2
    assert "nothing between two rows" in transformers_log.text


@pytest.mark.parametrize("num_masks", [1, 3])
def test_packed__sequences_have_as_many_masked_however_many_separators_they_have(tokenizer, num_masks):
    texts = ["red"] * 20 + ["red green blue teacher student mask layer norm"] * 5
    dataset = prepare_text(rows(texts), tokenizer, DataArguments(max_seq_length=18), "train")
    separators = [sum(row["special_tokens_mask"]) for row in dataset]
    assert len(set(separators)) > 1
    sampler = MaskSampler("random", 0.48)
    batch = DataCollatorForData2VecText(tokenizer, sampler, num_masks, student_tokens=False)(list(dataset))
    special = torch.tensor(dataset["special_tokens_mask"][:]).bool()
    assert not (batch["mask"] & special.unsqueeze(1)).any()
    assert batch["mask"].sum(-1).unique().tolist() == [sampler.count(16)]


def test_packed__a_rest_that_is_all_there_is_stays(tokenizer):
    dataset = prepare_text(rows(TEXTS[1:2]), tokenizer, DataArguments(max_seq_length=512), "train")
    assert dataset[0]["input_ids"] == tokenizer(TEXTS[1])["input_ids"]
    assert len(dataset) == 1


def test_packed__less_than_two_tokens_in_all(tokenizer):
    with pytest.raises(ValueError, match="train text has less than 2 tokens in all"):
        prepare_text(rows(["red"]), tokenizer, DataArguments(max_seq_length=16), "train")


def test_packed__labels_do_not_survive(tokenizer):
    dataset = prepare_text(rows(TEXTS, label=[0] * 40), tokenizer, DataArguments(max_seq_length=16), "train")
    assert sorted(dataset.column_names) == ["input_ids", "length", "sample_index", "special_tokens_mask"]


def test_packed__over_more_rows_than_a_batch(tokenizer):
    texts = TEXTS * 60
    dataset = prepare_text(rows(texts), tokenizer, DataArguments(max_seq_length=32), "train")
    tokens = 60 * sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
    packed = sum(map(len, without_specials(dataset)))
    assert 0 <= tokens - packed < 30


# Line by line


def test_line_by_line__rows_labels_and_numbers_stay_together(tokenizer):
    texts = TEXTS[1:8] * 3
    texts[3] = "  "
    labels = list(range(len(texts)))
    args = DataArguments(max_seq_length=12, line_by_line=True)
    dataset = prepare_text(rows(texts, label=labels), tokenizer, args, "train")
    kept = [number for number in labels if number != 3]
    assert dataset["label"][:] == dataset["sample_index"][:] == kept
    for row in dataset:
        expected = tokenizer(texts[row["label"]], truncation=True, max_length=12)["input_ids"]
        assert row["input_ids"] == expected
        assert row["special_tokens_mask"] == [1, *[0] * (len(expected) - 2), 1]
    assert "text" not in dataset.column_names


def test_line_by_line__parameter_overrides_the_flag(tokenizer):
    args = DataArguments(max_seq_length=16)
    dataset = prepare_text(rows(TEXTS[1:8], label=[0] * 7), tokenizer, args, "probe", line_by_line=True)
    assert dataset["label"][:] == [0] * 7


# Pairs


@pytest.mark.parametrize("typed", [False, True])
def test_pairs__are_encoded_as_the_tokenizer_does_and_the_longer_text_is_cut(typed, tokenizer):
    if typed:
        names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            model_input_names=names,
            **{f"{kind}_token": getattr(tokenizer, f"{kind}_token") for kind in ("pad", "mask", "cls", "sep")},
        )
    pairs = [("red green", "blue"), ("mask " * 9, "norm layer"), ("red", "teacher " * 9)]
    first, second = (list(column) for column in zip(*pairs, strict=True))
    args = DataArguments(dataset_name="x", max_seq_length=10)
    prepared = prepare_text(rows(first, text_pair=second), tokenizer, args, "train", line_by_line=True)
    for row, (text, pair) in zip(prepared, pairs, strict=True):
        expected = tokenizer(text.strip(), pair.strip(), truncation="longest_first", max_length=10)
        assert row["input_ids"] == expected["input_ids"]
        assert row.get("token_type_ids") == (expected["token_type_ids"] if typed else None)
        assert ("token_type_ids" in row) == typed
    assert len(prepared[1]["input_ids"]) == 10


def test_pairs__without_one_of_the_texts_are_bad_rows(tokenizer, transformers_log):
    first, second = ["red green"] * 30, ["blue"] * 28 + ["  ", None]
    raw = rows(first, text_pair=second)
    prepared = prepare_text(raw, tokenizer, DataArguments(dataset_name="x"), "train", line_by_line=True)
    assert prepared["sample_index"][:] == list(range(28))
    assert "row 28: no text; row 29: no text" in transformers_log.text


# Blank rows


@pytest.mark.parametrize("line_by_line", [False, True])
@pytest.mark.parametrize("empty", ["", " \n", None])
def test_blank_rows__are_counted_and_never_bad(tokenizer, transformers_log, line_by_line, empty):
    transformers_log.set_level("INFO", logger="modeling_data2vec_generic")
    args = DataArguments(max_seq_length=16, line_by_line=line_by_line, max_bad_fraction=0.0)
    texts = [text for pair in zip(TEXTS[1:8] * 2, [empty] * 14, strict=True) for text in pair]
    prepared = prepare_text(rows(texts), tokenizer, args, "train")
    assert without_specials(prepared) == without_specials(prepare_text(rows(TEXTS[1:8] * 2), tokenizer, args, "train"))
    assert "14 of 28 texts are blank and left out; they do not count as bad" in transformers_log.text
    assert "are bad" not in transformers_log.text


@pytest.mark.parametrize("line_by_line", [False, True])
def test_blank_rows__alone_are_no_data(tokenizer, line_by_line):
    with pytest.raises(ValueError, match="All 3 train texts are blank"):
        prepare_text(rows(["", None, " "]), tokenizer, DataArguments(line_by_line=line_by_line), "train")


# Unknown tokens


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    model = WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()
    names = {f"{name.lower().strip('[]')}_token": name for name in vocabulary[:5]}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@pytest.mark.parametrize("line_by_line", [False, True])
def test_unknown__rows_that_the_tokenizer_cannot_read_are_bad(english, line_by_line, transformers_log):
    transformers_log.set_level("INFO", logger="modeling_data2vec_generic")
    args = DataArguments(max_seq_length=16, line_by_line=line_by_line)
    prepared = prepare_text(rows([*TEXTS[1:8] * 2, "съешь же ещё red"]), english, args, "train")
    assert not any(english.unk_token_id in row["input_ids"] for row in prepared)
    assert "row 14: most of its tokens are unknown to the tokenizer" in transformers_log.text
    tokens = 2 * sum(len(text.split()) for text in TEXTS[1:8]) + 4
    assert f"{3 / tokens:.2%} of the tokens are unknown to the tokenizer" in transformers_log.text
    with pytest.raises(ValueError, match="100% of the tokens of the train text are unknown.* --processor_name"):
        prepare_text(rows(["съешь же ещё этих мягких"] * 20), english, args, "train")


# Labels of packed text


@pytest.mark.parametrize("side", ["right", "left"])
def test_labelled_lines__are_those_of_line_by_line(tokenizer, side):
    tokenizer = pickle.loads(pickle.dumps(tokenizer))
    tokenizer.truncation_side = side
    texts = [*TEXTS[1:8], "", " ".join(TEXTS), *TEXTS[1:8]]
    raw, args = rows(texts, label=list(range(16))), DataArguments(max_seq_length=12)
    lines = prepare_labelled_lines(raw, tokenizer, args, "train")
    expected = prepare_text(raw, tokenizer, args, "train", line_by_line=True)
    assert sorted(lines.column_names) == sorted(expected.column_names)
    assert {name: lines[name][:] for name in lines.column_names} == {
        name: expected[name][:] for name in lines.column_names
    }


@ONE_KEY_PER_TOKENIZER
def test_labelled_lines__of_packed_text_are_not_tokenised_again(tokenizer, tmp_path, monkeypatch):
    pandas.DataFrame({"text": TEXTS[1:8] * 3, "label": list("ab" * 10 + "a")}).to_parquet(tmp_path / "x.parquet")
    args = DataArguments(train_file=str(tmp_path / "x.parquet"), max_seq_length=12)
    raw = load_raw_datasets(args, "text", validation=False)["train"]
    prepare_text(raw, tokenizer, args, "train")
    monkeypatch.setattr(type(tokenizer), "_encode_plus", lambda *args, **kwargs: pytest.fail("tokenised again"))
    monkeypatch.setattr("modeling_data2vec_generic.modalities.text.tokens.frame_of", lambda _: Frame((2,), (3,), 3))
    assert len(prepare_labelled_lines(raw, tokenizer, args, "train")) == 21


# Cache


@ONE_KEY_PER_TOKENIZER
@pytest.mark.parametrize("mode", [{}, {"line_by_line": True}, {"packing": True}], ids=str)
def test_second_run__does_not_tokenise_again(mode, tokenizer, tmp_path, monkeypatch):
    pandas.DataFrame({"text": TEXTS[1:8] * 3, "label": list("ab" * 10 + "a")}).to_parquet(tmp_path / "x.parquet")
    tokenizer.save_pretrained(tmp_path)

    def run(**changes):
        args = DataArguments(train_file=str(tmp_path / "x.parquet"), max_seq_length=12, **mode)
        raw = load_raw_datasets(args, "text", validation=False)["train"]
        own = AutoTokenizer.from_pretrained(tmp_path)
        prepared = prepare_text(raw, own, args, "train", **changes)
        return [prepared[:], prepared._fingerprint, prepare_labelled_lines(raw, own, args, "train")[:]]

    first = run()
    for module in ("tokens._tokenise", "tokens._as_lines", "packing._Join.__call__", "packing._Pack.__call__"):
        fail = lambda *args, **kwargs: pytest.fail("made again")  # noqa: E731
        monkeypatch.setattr(f"modeling_data2vec_generic.modalities.text.{module}", named_as(module, fail))
    assert run(**{} if "packing" in mode else {"min_tokens": 1}) == first  # as masks of another kind need


def named_as(name, function):
    """The function with the name and the module of the one it replaces, which `datasets` asks for its cache."""
    function.__name__ = function.__qualname__ = name.partition(".")[2]
    function.__module__ = f"modeling_data2vec_generic.modalities.text.{name.partition('.')[0]}"
    return function


# Bad rows


def test_bad_rows__a_single_token_is_too_short_only_line_by_line(tokenizer, transformers_log):
    texts = [*TEXTS[1:8] * 2, "red"]
    prepare_text(rows(texts), tokenizer, DataArguments(max_seq_length=16), "train")
    assert "bad" not in transformers_log.text
    args = DataArguments(max_seq_length=16, line_by_line=True)
    assert len(prepare_text(rows(texts), tokenizer, args, "train")) == 14
    assert "row 14: too short" in transformers_log.text


def test_bad_rows__more_than_a_tenth_fails(tokenizer):
    args = DataArguments(max_seq_length=16, line_by_line=True)
    with pytest.raises(ValueError, match="2 of 16 train texts are bad.*--max_bad_fraction"):
        prepare_text(rows([*TEXTS[1:8] * 2, "red", "red"]), tokenizer, args, "train")


def test_built_in_prose__from_flag_to_sequences():
    args = DataArguments(dataset_name="python_docs", max_seq_length=64)
    raw = load_raw_datasets(args, "text")
    tokenizer = train_tokenizer(raw["train"]["text"], 1000)
    dataset = prepare_text(raw["train"], tokenizer, args, "train")
    assert len(dataset) > 1000
    assert "class" in tokenizer.decode(sum(dataset[:50]["input_ids"], []))


def test_bad_rows__lines_too_short_for_the_mask_are_left_out(tokenizer):
    texts = ["red green blue teacher student"] * 19 + ["red green"]
    kept = prepare_text(rows(texts), tokenizer, DataArguments(line_by_line=True), "train", min_tokens=3)
    assert kept["sample_index"][:] == list(range(19))


# --- malicious input


@pytest.mark.parametrize("line_by_line", [False, True])
def test_prepare__a_long_row_is_tokenised_in_parts_as_if_it_were_whole(line_by_line, monkeypatch):
    tokenizer = train_tokenizer(TEXTS, 300)
    texts = [" ".join(TEXTS[:9]), "rain and sun", " ".join(TEXTS), ""]
    raw = Dataset.from_dict({"text": texts, "sample_index": range(4)})
    args = DataArguments(train_file="rows.csv", max_bad_fraction=0.5, max_seq_length=20)
    whole = prepare_text(raw, tokenizer, args, "train", line_by_line)[:]
    monkeypatch.setattr("modeling_data2vec_generic.modalities.text.tokens._AT_ONCE", 300)
    assert prepare_text(raw, tokenizer, args, "train", line_by_line)[:] == whole


def test_prepare__a_word_without_end_is_cut(monkeypatch):
    monkeypatch.setattr("modeling_data2vec_generic.modalities.text.tokens._AT_ONCE", 100)
    tokenizer = train_tokenizer(["a"], 261)
    raw = Dataset.from_dict({"text": ["x" * 950], "sample_index": [0]})
    args = DataArguments(train_file="rows.csv", max_seq_length=52)
    prepared = prepare_text(raw, tokenizer, args, "train")
    letters = sum(row["input_ids"].count(tokenizer.convert_tokens_to_ids("x")) for row in prepared)
    assert len(prepared) == 19  # sequences of 50 tokens, which include the space before each of the ten parts
    assert letters == 940


def test_prepare__strange_characters_are_text():
    tokenizer = train_tokenizer(["a b"], 300)
    texts = ["a\0b", "\ufeffa b", "\x1b[2J\x07 b", "a\u202eb \ud7ff \U0010ffff"]
    raw = Dataset.from_dict({"text": texts, "sample_index": range(4)})
    prepared = prepare_text(raw, tokenizer, DataArguments(train_file="rows.csv"), "train", line_by_line=True)
    decoded = [tokenizer.decode(row["input_ids"], skip_special_tokens=True).strip() for row in prepared]
    assert decoded == texts
