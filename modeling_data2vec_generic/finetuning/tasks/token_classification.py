"""Token classification: a tag for each word of a sentence or each residue of a protein.

A tag is, for example, a part of speech or the entity that the word is a part of.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, LargeList, List, Value
from datasets.table import InMemoryTable
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification
from transformers.data.data_collator import pad_without_fast_tokenizer_warning
from transformers.utils import logging

from ...classification_data2vec_generic import Data2VecGenericForTokenClassification
from ...data.arguments import DataArguments
from ...data.quality.screening import good_rows
from ...modalities.text.words import NOWHERE, prepare_words
from ..labels.single_label import SingleLabel
from ..metrics import load_metric
from .base import Collate, Splits, Task

logger = logging.get_logger(__name__)

_IGNORED = -100  # label of positions without one, in torch and in transformers
_ENTITY_PREFIXES = ("B-", "I-", "E-", "S-")
_SHOWN = 12  # most sentences in the figure of errors


class TokenClassification(Task):
    """A list of words and a list of as many tags per row. Tags are classes, strings or whole numbers.

    Instead of a list, words and tags may be a string, which is read as the list of its letters.

    Only the first token of each word has the word's tag. Words beyond --max_seq_length are left out of training and
    metrics, and have no prediction. If the tags mark entities ("O", and "B-", "I-", "E-" or "S-" with a type), the
    metrics count entities; otherwise they count words.
    """

    name = "token-classification"
    modality_name = "text"
    pipeline_tag = "token-classification"
    pipeline_input = '"a text"'
    auto_class = AutoModelForTokenClassification
    own_head = Data2VecGenericForTokenClassification
    label_column = "ner_tags"
    reads_words = True
    reads_text_labels = True
    own_flags = ("class_weights", "label_smoothing_factor")
    # Neither paper has such a task. The values are those of BERT (arXiv 1810.04805, appendix A.3): batches of 16 or
    # 32, 2 to 4 epochs, learning rates of 2e-5, 3e-5 and 5e-5; and, in its code, weight decay .01 and warm-up in the
    # first 10% of the steps.
    defaults = {
        "learning_rate": 5e-5,
        "per_device_train_batch_size": 32,
        "num_train_epochs": 4,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
    }
    target: SingleLabel

    def read(self, train: Dataset) -> None:
        """Make `modality` as the base class does, with joined words, on which a tokenizer may be trained."""
        super().read(train.with_transform(_joined))

    @classmethod
    def takes(cls, label: Any) -> bool:
        return False  # lists of classes may also be several classes of the row, for text-classification

    @property
    def main_metric(self) -> str:
        return "f1" if self.has_entities else "accuracy"

    @property
    def has_entities(self) -> bool:
        """Whether the tags mark entities."""
        tags = set(self.target.names) - {"O"}
        return all(tag.startswith(_ENTITY_PREFIXES) for tag in tags)

    def encode(self, splits: Splits) -> Splits:
        splits = {split: _good(dataset, split, self.data_args) for split, dataset in splits.items()}
        self.target = SingleLabel()
        self.target.label_smoothing = self.training_args.label_smoothing_factor
        words = self.target.encode({split: _by_word(dataset) for split, dataset in splits.items()}, self.data_args)
        feature = List(ClassLabel(names=self.target.names))
        encoded = {}
        for split, dataset in splits.items():
            ends = np.cumsum([len(tags) for tags in dataset["label"][:]])
            tags = np.split(np.asarray(words[split]["label"][:]), ends[:-1])
            column = Dataset.from_dict({"label": tags}, Features({"label": feature})).data.column("label")
            encoded[split] = dataset.remove_columns("label").add_column("label", column, feature=feature)
        return encoded

    def check(self, train: Dataset) -> None:
        """Warn of tags without a word in the training rows, and set the class weights.

        Raises:
            ValueError: --class_weights can't be used with these tags.
        """
        words = _by_word(train)
        counts = self.target.counts(words)
        lacking = [name for name, count in zip(self.target.names, counts, strict=True) if not count]
        if lacking:
            logger.warning(
                f"{len(lacking)} of {len(counts)} tags occur nowhere in the training rows ({', '.join(lacking[:5])}), "
                "so they can't be learned."
            )
        if self.task_args.class_weights is not None:
            if lacking and self.task_args.class_weights == "balanced":
                raise ValueError(
                    f"class_weights='balanced' weighs tags by how often they occur, and {', '.join(lacking[:5])} "
                    "never occur in the training rows. Choose more rows or give a number for each tag."
                )
            self.target.weigh(self.task_args.class_weights, words)

    def settings(self) -> dict[str, Any]:
        return self.target.settings()

    def prepare(self, rows: Dataset, split: str) -> Dataset:
        return prepare_words(rows, self.processor, self.data_args, split)

    def inputs(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        padded = pad_without_fast_tokenizer_warning(
            self.processor,
            {"input_ids": [example["input_ids"] for example in examples]},
            return_attention_mask=True,
            return_tensors="pt",
        )
        return {name: torch.as_tensor(values) for name, values in padded.items()}

    def collator(self, training: bool) -> Collate:
        return self._collate

    def _collate(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The inputs and `labels`, (B, T): the tag at the first token of each word, and -100 elsewhere."""
        inputs = self.inputs(examples)
        labels = torch.full_like(inputs["input_ids"], _IGNORED)
        padding = inputs["input_ids"].shape[1] - torch.tensor([len(example["input_ids"]) for example in examples])
        for row, example in enumerate(examples):
            places, tags = torch.tensor(example["first_tokens"]), torch.tensor(example["label"])
            start = padding[row] if self.processor.padding_side == "left" else 0
            labels[row, start + places[places != NOWHERE]] = tags[places != NOWHERE]
        return {**inputs, "labels": labels}

    def loss(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Tensor, Any]:
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        logits = outputs["logits"].flatten(0, 1)
        return self.target.loss(logits, inputs["labels"].flatten(), model.training), outputs

    def answers(self, logits: Tensor) -> Tensor:
        """(B, T), the best tag at each position."""
        return logits.argmax(-1)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics as described in the base class, of (N, T) predicted tags and (N, T) labels."""
        if self.has_entities:
            given = {"predictions": self._tags(logits, labels), "references": self._tags(labels, labels)}
            return load_metric("seqeval").compute(**given)
        words = labels != _IGNORED
        given = {"predictions": logits[words], "references": labels[words]}
        return {
            **load_metric("accuracy").compute(**given),
            "f1_macro": load_metric("f1").compute(**given, average="macro")["f1"],
        }

    def _tags(self, values: np.ndarray, labels: np.ndarray) -> list[list[str]]:
        """The names of the tags in `values`, (N, T), at the positions of each row's words, which `labels` mark."""
        return [
            [self.target.names[value] for value in row[words]]
            for row, words in zip(values, labels != _IGNORED, strict=True)
        ]

    def predictions(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset) -> list[dict[str, Any]]:
        """Rows with `id`, and `tokens`, `labels` and `predictions`, three lists of the same length.

        The prediction for a word beyond --max_seq_length or without a token is None.
        """
        rows = []
        for example, predicted in zip(dataset, self._tags(logits, labels), strict=True):
            found = iter(predicted)
            rows.append(
                {
                    "id": example["sample_index"],
                    "tokens": list(example["text"]),
                    "labels": [self.target.names[tag] for tag in example["label"]],
                    "predictions": [None if place == NOWHERE else next(found) for place in example["first_tokens"]],
                }
            )
        return rows

    def draw(self, logits: np.ndarray, labels: np.ndarray, dataset: Dataset, directory: Path) -> list[Path]:
        from ...figures.predictions import plot_confusion, plot_errors  # matplotlib is an extra

        words = labels != _IGNORED
        paths = [plot_confusion(labels[words], logits[words], self.target.names, directory / "confusion.png")]
        errors = ((logits != labels) & words).sum(1)
        worst = [i for i in np.argsort(-errors, kind="stable")[:_SHOWN].tolist() if errors[i]]
        if worst:
            titles = [f"{errors[i]} of {words[i].sum()} words are wrong" for i in worst]
            sentences = [self.predictions(logits[[i]], labels[[i]], dataset.select([i]))[0] for i in worst]
            paths.append(plot_errors(titles, [_marked(row) for row in sentences], directory / "errors.png"))
        return paths


def _good(dataset: Dataset, split: str, args: DataArguments) -> Dataset:
    """The rows that have a tag for each word.

    Raises:
        ValueError: the column has another type, or too many rows are bad.
    """
    feature = dataset.features["label"]
    is_list = isinstance(feature, List | LargeList) and isinstance(feature.feature, ClassLabel | Value)
    if not (is_list or (isinstance(feature, Value) and feature.dtype in ("string", "large_string"))):
        raise ValueError(
            f"label_column_name={args.label_column_name!r} holds {feature} in the {split} data, and a tag for each "
            "word is expected: lists of classes, strings or whole numbers."
        )
    rows = zip(dataset["text"][:], dataset["label"][:], strict=True)
    good = good_rows(
        [_problem(words, tags) for words, tags in rows],
        dataset,
        noun="sentence",
        split=split,
        max_bad_fraction=args.max_bad_fraction,
    )
    return dataset if len(good) == len(dataset) else dataset.select(good)


def _problem(words: Any, tags: Any) -> str:
    """Why a row can't be used; "" if it can."""
    if not words:
        return "no words"
    if tags is None or len(tags) != len(words):
        return f"{len(words)} words and {len(tags or ())} tags"
    if any(word is None for word in words):
        return "a word is missing"
    # On the Hub, -1 stands for a class that is not published; in transformers, -100 stands for none.
    if any(tag is None or (isinstance(tag, int) and tag < 0) for tag in tags):
        return "a word without a tag"
    return ""


def _by_word(dataset: Dataset) -> Dataset:
    """A dataset with a row for each word, its tag as `label`, and the `sample_index` of the word's row."""
    feature = dataset.features["label"]
    tag = feature.feature if isinstance(feature, List | LargeList) else feature
    rows = dataset["label"][:]
    columns = {
        "label": [tag for tags in rows for tag in tags],
        "sample_index": np.repeat(dataset["sample_index"][:], [len(tags) for tags in rows]),
    }
    features = Features({"label": tag, "sample_index": Value("int64")})
    # `from_dict` would check each tag in Python, of which there may be millions.
    return Dataset(InMemoryTable.from_pydict(columns, schema=features.arrow_schema))


def _joined(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Rows of a batch with their words joined by spaces."""
    return {"text": [" ".join(word or "" for word in words or ()) for words in batch["text"]]}


def _marked(sentence: dict[str, Any]) -> str:
    """The words of a sentence. A wrong prediction is written as word[predicted, not label]."""
    return " ".join(
        word if predicted in (None, tag) else f"{word}[{predicted}, not {tag}]"
        for word, tag, predicted in zip(sentence["tokens"], sentence["labels"], sentence["predictions"], strict=True)
    )
