"""FASTA files of any layout become text, with one token per amino acid."""

import gzip

import pytest
from transformers import AutoTokenizer

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.sources.raw_datasets import infer_modality, load_raw_datasets
from modeling_data2vec_generic.data.tables.fasta import sequences
from modeling_data2vec_generic.modalities.text.amino_acids import amino_acid_tokenizer
from modeling_data2vec_generic.modalities.text.tokenizer import check_tokenizer, knows_capitals_only, train_tokenizer
from modeling_data2vec_generic.modalities.text.tokens import prepare_text
from modeling_data2vec_generic.modalities.text.words import prepare_words

pytestmark = pytest.mark.fast

PROTEINS = ">sp|P1 first\nMKVL\nAERT*\n\n>second\nmkxx\n; a comment\n>third\nAC DE\r\n"
READ = ["MKVLAERT", "MKXX", "ACDE"]


def test_sequences__any_layout():
    assert list(sequences(PROTEINS.splitlines(keepends=True))) == READ


def test_sequences__an_entry_without_residues_is_empty():
    assert list(sequences([">a", ">b", "MK", ">c"])) == ["", "MK", ""]


@pytest.mark.parametrize("name", ["x.fasta", "x.fa", "x.FAA", "x.fas", "x.fna", "x.fasta.gz", "x.fna.gz"])
def test_file__of_any_ending_is_text(name, tmp_path):
    content = PROTEINS.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    args = DataArguments(train_file=str(tmp_path / name))
    assert infer_modality(args) == "text"
    train = load_raw_datasets(args, "text", validation=False)["train"]
    assert train["text"][:] == READ
    assert train.column_names == ["text", "sample_index"]


def test_file__that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "x.fasta"
    for text in ("MKV", "MKVAA"):
        path.write_text(f">a\n{text}\n")
        args = DataArguments(train_file=str(path))
        assert load_raw_datasets(args, "text", validation=False)["train"]["text"][:] == [text]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.fasta", b"MKV\n>a\nMM\n", "cannot be read as FASTA: line 1 is 'MKV', but an entry begins with"),
        ("x.fasta", b"\n\n", "cannot be read as FASTA: there is no entry"),
        ("x.fasta", b"", "is empty"),
        ("x.fasta", b">a\n\xff\xfe\n", "cannot be read as FASTA: .*utf-8"),
        ("x.fa.gz", b"not gzip", "cannot be read as FASTA: .*gzip"),
        ("x.fa.gz", gzip.compress(PROTEINS.encode(), mtime=0)[:-9], "cannot be read as FASTA: .*ended before"),
        ("x.gb", b"LOCUS", r"unknown extension: expected one of .*\.fasta"),
    ],
)
def test_file__that_is_no_fasta(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_raw_datasets(DataArguments(train_file=str(tmp_path / name)), "text")


def test_tokenizer__has_a_token_for_each_amino_acid_and_those_of_training(tmp_path):
    tokenizer = amino_acid_tokenizer()
    check_tokenizer(tokenizer)
    assert len(tokenizer) == 33
    ids = tokenizer("ACDEFGHIKLMNPQRSTVWY")["input_ids"]
    assert len(set(ids)) == len(ids) == 22
    assert tokenizer.convert_ids_to_tokens(ids)[:3] == ["<cls>", "A", "C"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("MJK")["input_ids"]) == ["<cls>", "M", "<unk>", "K", "<eos>"]
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path, model_type="esm")("MKV")["input_ids"] == [0, 20, 15, 7, 2]


@pytest.mark.parametrize("line_by_line", [True, False])
def test_prepared__rows_and_packed(line_by_line, tmp_path):
    (tmp_path / "x.fasta").write_text(PROTEINS)
    args = DataArguments(train_file=str(tmp_path / "x.fasta"), line_by_line=line_by_line, max_seq_length=7)
    raw = load_raw_datasets(args, "text", validation=False)["train"]
    tokenizer = amino_acid_tokenizer()
    prepared = prepare_text(raw, tokenizer, args, "train")
    read = ["".join(tokenizer.convert_ids_to_tokens(row["input_ids"])[1:-1]) for row in prepared]
    assert read == (["MKVLA", "MKXX", "ACDE"] if line_by_line else ["MKVLA", "ERT<eos>M", "KXX<eos>A"])


@pytest.mark.parametrize("line_by_line", [True, False])
def test_prepared__small_letters_of_any_table_are_read_as_capitals(line_by_line, tmp_path):
    (tmp_path / "x.csv").write_text("text\nmkvlaert\nMKxx\n")
    args = DataArguments(train_file=str(tmp_path / "x.csv"), line_by_line=line_by_line, max_seq_length=10)
    raw = load_raw_datasets(args, "text", validation=False)["train"]
    tokenizer = amino_acid_tokenizer()
    prepared = prepare_text(raw, tokenizer, args, "train")
    assert "".join(tokenizer.convert_ids_to_tokens(prepared[0]["input_ids"])).startswith("<cls>MKVLAERT")
    words = raw.add_column("label", ["12345678", "1234"])
    ids = prepare_words(words, tokenizer, args, "train")[1]["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<cls>", *"MKXX", "<eos>"]


def test_capitals__are_known_alone_by_tokenizers_of_sequences_only():
    assert knows_capitals_only(amino_acid_tokenizer())
    assert not knows_capitals_only(train_tokenizer(["a text with small letters"] * 3, 300))


def test_prepared__empty_entries_are_blank(tmp_path):
    (tmp_path / "x.fasta").write_text(">a\n>b\nMKV\n>c\nMKVA\n")
    args = DataArguments(train_file=str(tmp_path / "x.fasta"), line_by_line=True)
    raw = load_raw_datasets(args, "text", validation=False)["train"]
    assert prepare_text(raw, amino_acid_tokenizer(), args, "train")["sample_index"][:] == [1, 2]


def test_load__a_gzipped_line_without_end_takes_little_memory(tmp_path, little_memory):
    path = tmp_path / "bomb.fasta.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b">a\n")
        for _ in range(300):
            file.write(b"A" * 1_000_000)
    args = DataArguments(train_file=str(path))
    with little_memory(256 << 20), pytest.raises(ValueError, match="more than 1000000 letters: it is no protein"):
        load_raw_datasets(args, "text")
