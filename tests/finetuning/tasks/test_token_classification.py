"""Token classification: the places of words among tokens, metrics, saved files, and errors."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import pre_tokenizers
from transformers import AutoModel, AutoModelForTokenClassification, ByT5Tokenizer, PreTrainedTokenizerFast, pipeline
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from modeling_data2vec_generic import Data2VecGenericForTokenClassification
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.finetuning.metrics import load_metric
from modeling_data2vec_generic.finetuning.tasks.token_classification import TokenClassification
from modeling_data2vec_generic.modalities.text.amino_acids import amino_acid_tokenizer
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.modalities.text.words import prepare_words

from ...tiny import sentences, tiny_encoder
from ...tiny_encoders import TINY

pytestmark = pytest.mark.usefixtures("own_cache")

TAG_OF = {"rain": "B-SKY", "sun": "B-SKY", "light": "I-SKY", "it": "I-SKY", "leaves": "B-PLANT", "seed": "I-PLANT"}
NAMES = ["O", "B-SKY", "I-SKY", "B-PLANT", "I-PLANT"]


def tags_of(words: list[str]) -> list[str]:
    """Tags that the words give away."""
    return [TAG_OF.get(word, "O") for word in words]


def spans_of(tags: list[str]) -> list[tuple[str, int, int]]:
    """Type, beginning and end of entities: B begins one, and so does I unless it goes on with one of its type."""
    spans: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags):
        if tag.startswith("I-") and spans and spans[-1][0] == tag[2:] and spans[-1][2] == place:
            spans[-1] = (tag[2:], spans[-1][1], place + 1)
        elif tag != "O":
            spans.append((tag[2:], place, place + 1))
    return spans


# --- where words are among tokens


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with so few merges that most words are several tokens."""
    return train_tokenizer(sentences(40), 275)


def prepared(rows: list[Any], tokenizer: Any, **settings: Any) -> Dataset:
    data = Dataset.from_dict({"text": rows, "sample_index": range(len(rows))})
    return prepare_words(data, tokenizer, DataArguments(train_file="-", **settings), "train")


def test_first_tokens__are_where_each_word_begins(tokenizer):
    rows = [sentence.split() for sentence in sentences(12)]
    rows[3].insert(2, "")  # no token
    rows[5][1] = "naïve—日本"
    samples = prepared(rows, tokenizer)
    for words, sample in zip(rows, samples, strict=True):
        expected, end = [], 1  # behind [CLS]
        for word in words:
            pieces = tokenizer.tokenize(word) if word else []
            space = pieces[:1] == ["Ġ"] and end > 1  # of the word, but none of its letters
            expected.append(end + space if pieces else -1)
            end += len(pieces)
        assert sample["first_tokens"] == expected
        assert sample["input_ids"] == tokenizer(" ".join(word for word in words if word))["input_ids"]
        assert end > 1 + len(words)


def test_first_tokens__of_a_tokenizer_that_tells_words_by_the_space_before_them(tokenizer):
    bare = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", mask_token="[MASK]"
    )
    bare.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    (sample,) = prepared([["the", "sun", "the"]], bare)
    ids, first = sample["input_ids"], sample["first_tokens"]
    pieces = [ids[start:end] for start, end in zip(first, [*first[1:], len(ids) - 1], strict=True)]
    assert [bare.decode(piece) for piece in pieces] == ["the", " sun", " the"]


def test_first_tokens__of_letters_and_a_tokenizer_in_python():
    esm = amino_acid_tokenizer()
    assert not esm.is_fast
    samples = prepared(["MKTW", "AC"], esm)
    assert [sample["first_tokens"] for sample in samples] == [[1, 2, 3, 4], [1, 2]]
    assert samples[0]["input_ids"] == esm("MKTW")["input_ids"]


def test_first_tokens__of_words_and_a_tokenizer_of_bytes():
    byt5 = ByT5Tokenizer()
    (sample,) = prepared([["the", "sün", "", "is"]], byt5)
    assert sample["input_ids"] == byt5("the sün  is")["input_ids"]
    assert sample["first_tokens"] == [0, 4, -1, 10]


def test_words__beyond_the_length_have_no_place_and_are_counted(tokenizer, caplog):
    rows = [["rain"] * 3, ["rain"] * 40]
    samples = prepared(rows, tokenizer, max_seq_length=20)
    whole = prepared(rows, tokenizer)
    assert [len(row) for row in samples["input_ids"][:]] == [len(whole[0]["input_ids"]), 20]
    within = [place for place in whole[1]["first_tokens"] if place < 19]  # the last token is [SEP]
    assert samples[1]["first_tokens"] == within + [-1] * (40 - len(within))
    assert f"{40 - len(within)} of 43 train words have no token within max_seq_length=20" in caplog.text


@pytest.mark.parametrize("side", ["left", "right"])
def test_predictions__are_those_at_the_first_tokens(side, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    task = TokenClassification.__new__(TokenClassification)
    task.modality, task.target = SimpleNamespace(processor=tokenizer), SimpleNamespace(names=["A", "B", "C"])
    words, tags = [["rain", "", "sun"], ["light"] * 5], [[0, 1, 2], [2, 1, 0, 1, 2]]
    samples = prepared(words, tokenizer).add_column("label", tags)
    batch = task.collator(training=True)(list(samples))
    for row, sample in enumerate(samples):
        ids = batch["input_ids"][row][batch["labels"][row] >= 0].tolist()
        assert ids == [sample["input_ids"][place] for place in sample["first_tokens"] if place >= 0]
    labels = batch["labels"].numpy()
    predicted = np.where(labels == 2, 0, labels)
    rows = task.predictions(predicted, labels, samples)
    assert [row["labels"] for row in rows] == [list("ABC"), list("CBABC")]
    assert [row["predictions"] for row in rows] == [["A", None, "A"], list("ABABA")]


# --- metrics


@pytest.mark.parametrize(
    ("references", "predictions", "expected"),
    [
        # IOB2: of PER (0-1), LOC (3), LOC (4) the last two are found, and PER is cut short.
        (["B-PER", "I-PER", "O", "B-LOC", "B-LOC"], ["B-PER", "O", "O", "B-LOC", "B-LOC"], (2 / 3, 2 / 3, 4 / 5)),
        # IOB1: B only parts two entities that touch. Both (0-1) and (2) are there; one is given another type.
        (["I-PER", "I-PER", "B-PER"], ["I-PER", "I-PER", "B-LOC"], (1 / 2, 1 / 2, 2 / 3)),
        # IOBES: (0-2) and (3); the prediction has (3) and nothing else.
        (["B-X", "I-X", "E-X", "S-Y"], ["O", "O", "O", "S-Y"], (1.0, 1 / 2, 1 / 4)),
        (["O", "O"], ["O", "O"], (0.0, 0.0, 1.0)),
    ],
)
def test_entities__against_spans_counted_by_hand(references, predictions, expected):
    result = load_metric("seqeval").compute(predictions=[predictions], references=[references])
    precision, recall, accuracy = expected
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    assert result == pytest.approx({"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy})


def test_entities__do_not_reach_over_the_end_of_a_sentence():
    references = [["O", "B-A"], ["I-A", "O"]]
    result = load_metric("seqeval").compute(predictions=[["O", "B-A"], ["O", "O"]], references=references)
    assert result["f1"] == pytest.approx(2 / 3)  # one of two


# --- the script


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    tiny_encoder("bert", vocab_size=400).save_pretrained(folder / "bert")
    config = TINY["splinter"].config()
    config.vocab_size = 400
    AutoModel.from_config(config).save_pretrained(folder / "splinter")
    tokenizer = train_tokenizer(sentences(40), 400)
    for name in ("bert", "splinter"):
        tokenizer.save_pretrained(folder / name)
    words = [sentence.split() for sentence in sentences(60)]
    tags = [tags_of(row) for row in words]
    feature = List(ClassLabel(names=NAMES))
    columns = {"tokens": words, "ner_tags": [[NAMES.index(tag) for tag in row] for row in tags]}
    features = Features({"tokens": List(Value("string")), "ner_tags": feature})
    Dataset.from_dict(columns, features).to_parquet(folder / "entities.parquet")
    lengths = [[len(word) for word in row] for row in words]
    table(folder / "lengths.jsonl", words=words, length=lengths)
    table(folder / "unseen.jsonl", words=words, length=[[99] * len(row) for row in words])
    table(folder / "one.jsonl", words=words, length=[[1] * len(row) for row in words])
    table(folder / "letters.jsonl", text=["".join(row) for row in words], kind=["".join(row) for row in words])
    damaged = [*lengths[:-5], lengths[-5][:-1], None, [*lengths[-3][:-1], None], [-100, *lengths[-2][1:]], lengths[-1]]
    table(folder / "damaged.jsonl", words=[*words[:-1], []], length=damaged)
    return folder


def table(path: Path, **columns: list[Any]) -> None:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


ALWAYS = "--task token-classification --max_seq_length 32 --model_name_or_path".split()
ENTITIES = ["DATA/bert", "--train_file", "DATA/entities.parquet"]
LENGTHS = "DATA/bert --label_column_name length --train_file DATA/lengths.jsonl".split()


def results(output_dir: Path) -> dict[str, float]:
    return json.loads((output_dir / "all_results.json").read_text())


def predictions(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


def test_entities__are_learned_and_the_pipeline_finds_them(finetune):
    out = finetune(*ENTITIES, "--learning_rate", "1e-2", "--logging_steps", "50", steps=100, figures=True)
    assert results(out)["eval_f1"] == 1.0
    model, info = AutoModelForTokenClassification.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == dict(enumerate(NAMES))
    tag = pipeline("token-classification", model=str(out), aggregation_strategy="first")
    for row in predictions(out):
        assert row["predictions"] == row["labels"] == tags_of(row["tokens"])
        found = [(entity["entity_group"], entity["word"].split()) for entity in tag(" ".join(row["tokens"]))]
        assert found == [(kind, row["tokens"][start:end]) for kind, start, end in spans_of(row["labels"])]
    assert {path.name for path in (out / "figures").iterdir()} == {"confusion.png"}
    assert 0 < len(tag("rain and " * 50)) < 50  # cut at the encoder's 40 positions


def test_predictions__say_what_the_metrics_measure(finetune):
    flags = ["--max_seq_length", "8", "--class_weights", "balanced", "--label_fraction", "0.5"]
    out = finetune(*LENGTHS, *flags, figures=True)
    rows = predictions(out)
    assert len(rows) == 20
    pairs = [
        (label, predicted)
        for row in rows
        for label, predicted in zip(row["labels"], row["predictions"], strict=True)
        if predicted is not None
    ]
    assert 0 < len(pairs) < sum(len(row["tokens"]) for row in rows)  # some words were cut off
    assert all(row["labels"] == [str(len(word)) for word in row["tokens"]] for row in rows)
    assert results(out)["eval_accuracy"] == pytest.approx(np.mean([label == predicted for label, predicted in pairs]))
    f1 = []
    for tag in {tag for pair in pairs for tag in pair}:
        hits = sum(label == predicted == tag for label, predicted in pairs)
        f1.append(2 * hits / sum((label == tag) + (predicted == tag) for label, predicted in pairs))
    assert results(out)["eval_f1_macro"] == pytest.approx(np.mean(f1))
    assert {path.name for path in (out / "figures").iterdir()} == {"confusion.png", "errors.png"}


def test_loss__is_over_the_words_alone(finetune, monkeypatch):
    """A batch's loss, from its words one by one."""
    seen = []
    computed = TokenClassification.loss

    def recorded(self, model, inputs):
        loss, outputs = computed(self, model, inputs)
        seen.append((loss.item(), outputs["logits"].detach(), inputs["labels"]))
        return loss, outputs

    monkeypatch.setattr(TokenClassification, "loss", recorded)
    finetune(*ENTITIES, steps=1)
    loss, logits, labels = seen[0]
    shares = logits.log_softmax(-1)
    words = [-shares[b, t, labels[b, t]] for b, t in torch.nonzero(labels >= 0).tolist()]
    assert 0 < len(words) < labels.numel()
    assert loss == pytest.approx(float(torch.stack(words).mean()), rel=1e-5)


def test_compare__is_from_scratch_and_finetuned(finetune):
    out = finetune(*ENTITIES, "--compare")
    table = json.loads((out / "comparison.json").read_text())
    assert list(table) == ["from_scratch", "finetuned"]
    assert list(table["finetuned"]) == ["eval_f1", "eval_accuracy", "eval_loss", "eval_precision", "eval_recall"]


def test_own_head__for_a_type_without_one_loads_with_and_without_this_package(finetune):
    out = finetune("DATA/splinter", "--train_file", "DATA/entities.parquet")
    model = AutoModelForTokenClassification.from_pretrained(out).eval()
    assert type(model) is Data2VecGenericForTokenClassification
    tokens = torch.arange(5, 17).view(2, 6)
    with torch.no_grad():
        expected = model.classifier(model.encoder(input_ids=tokens).last_hidden_state)
        torch.testing.assert_close(model(input_ids=tokens).logits, expected)
        labels = torch.tensor([[0, -100, 4, 1, -100, 2]] * 2)
        loss = torch.nn.functional.cross_entropy(expected[labels >= 0], labels[labels >= 0])
        torch.testing.assert_close(model(input_ids=tokens, labels=labels).loss, loss)
        saved_code = get_class_from_dynamic_module(model.config.auto_map["AutoModelForTokenClassification"], out)
        assert saved_code is not Data2VecGenericForTokenClassification
        torch.testing.assert_close(saved_code.from_pretrained(out).eval()(input_ids=tokens).logits, expected)
    assert pipeline("token-classification", model=str(out))("rain and sun")


def test_letters__each_with_a_label(finetune):
    flags = "DATA/bert --label_column_name kind --train_file DATA/letters.jsonl".split()
    row = predictions(finetune(*flags))[0]
    assert row["labels"] == row["tokens"]
    assert len(row["predictions"]) == len(row["tokens"])


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (
            [*LENGTHS, "--train_file", "DATA/damaged.jsonl", "--max_bad_fraction", "0.01"],
            ["5 of 60 train sentences are bad", "row 55:", "words and", "a word without a tag", "max_bad_fraction"],
        ),
        ([*LENGTHS, "--validation_file", "DATA/unseen.jsonl"], ["1 classes that the training data lack (99)"]),
        ([*LENGTHS, "--train_file", "DATA/one.jsonl"], ["of one class (1)"]),
        ([*ENTITIES, "--label_column_name", "pos"], ["label_column_name='pos'", "tokens, ner_tags"]),
        ([*ENTITIES, "--text_column_name", "ner_tags"], ["text_column_name='ner_tags'", "lists of words"]),
        ([*ENTITIES, "--labels_per_class", "3"], ["labels_per_class is for one class per row"]),
        ([*ENTITIES, "--knn"], ["--knn is not possible with token-classification"]),
        ([*ENTITIES, "--class_weights", "1,2"], ["class_weights='1,2'", "5 classes"]),
        ([*ENTITIES, "--class_weights", "balanced", "--max_train_samples", "1"], ["never occur in the training rows"]),
        (["DATA/bert", "--train_dir", "DATA/bert"], ["train_dir=", "cannot be read as json"]),
    ],
)
def test_bad_input__is_one_clear_message(flags, parts, finetune):
    with pytest.raises(ValueError, match=r"\w") as caught:
        finetune(*flags)
    for part in parts:
        assert part in str(caught.value)


def test_damaged_sentences__are_left_out_and_named(finetune, caplog):
    finetune(*LENGTHS, "--train_file", "DATA/damaged.jsonl")
    assert "5 of 60 train sentences are bad (row 55: " in caplog.text


def test_tags__that_training_lacks_are_named(finetune, caplog):
    finetune(*ENTITIES, "--max_train_samples", "1")
    assert "tags occur nowhere in the training rows" in caplog.text
