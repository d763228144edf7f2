"""Text: data2vec and data2vec 2.0 beside masked language modelling and new weights, on glosses and the Brown corpus.

All have the same encoder, tokenizer, batches and schedule of the learning rate. A text is a gloss or a sentence, cut
after 32 tokens; batches are of texts of similar length. Frozen features of a gloss are the mean over its tokens, those
of a word the hidden state of its first token.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from modeling_data2vec_generic.evaluation.probe import (
    extract_features,
    labels_of,
    linear_accuracy,
    real_tokens,
    subset,
)
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer

from ..parquet import read
from ..peers.text import train_mlm
from ..scores.encoders import finetuned, frozen_scores
from ..table import Outcome, Run, Table
from ..training import Trained, pretrain_data2vec, steps_for

DATA = Path("data")
PARTS = Path("output/compare/text/parts")
BUDGET = 700
SEARCH_BUDGET = 250
MAX_TOKENS = 32
HELD_OUT = 3000  # labelled glosses of the validation part
DATA2VEC, DATA2VEC2, MLM, NEW = "data2vec", "data2vec 2.0", "MLM", "new weights"

ROFORMER = {
    "model_type": "roformer",
    "hidden_size": 128,
    "embedding_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TINY = {"hidden_size": 16, "embedding_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
TRAINING = {
    "per_device_train_batch_size": 64,
    "train_sampling_strategy": "group_by_length",
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "logging_steps": 0.05,
}
"""What all contenders have, by the names of `TrainingArguments`."""


@dataclass(frozen=True)
class Texts:
    """One of the data.

    Args:
        found: by contender, what the search has changed in the settings that it begins with, of some contenders.
        finetuning_rate: what it has found for all of them.
        task: flags of `data2vec finetune`.
        probe_rows: labelled rows that are read by the frozen encoder, to fit classifiers on.
        labels: further flags, which say how many labels there are ("few" and "more") and how many steps are taken.
        searched: by contender, what the search tries: changes to the settings that it begins with.
    """

    found: Mapping[str, Mapping[str, Any]]
    finetuning_rate: float
    task: Mapping[str, Any]
    probe_rows: int
    labels: Mapping[str, Mapping[str, Any]]
    searched: Mapping[str, Sequence[Mapping[str, Any]]]

    def changes_to(self, contender: str) -> dict[str, Any]:
        """What the search has changed in the settings of a contender, all in all."""
        return {**self.found.get(contender, {}), "finetuning_rate": self.finetuning_rate}


CONTENDERS: dict[str, dict[str, Any]] = {
    DATA2VEC: {
        "objective": "data2vec",
        "average_top_k_layers": 2,
        "target_source": "block",
        "target_layer_norms": ["batch"],
        "mask_ratio": 0.4,
        "ema_decay": 0.99,
        "ema_end_decay": 0.9995,
        "max_grad_norm": 5.0,
        "learning_rate": 1.5e-3,
    },
    DATA2VEC2: {
        "objective": "data2vec2",
        "num_masks": 2,
        "average_top_k_layers": 2,
        "target_source": "block",
        "target_layer_norms": ["batch"],
        "mask_ratio": 0.5,
        "decoder_dim": 128,
        "decoder_layers": 2,
        "decoder_kernel_size": 5,
        "decoder_projection_layers": 1,
        "ema_decay": 0.99,
        "ema_end_decay": 0.9995,
        "max_grad_norm": 5.0,
        "learning_rate": 1.5e-3,
    },
    MLM: {"mask_ratio": 0.15, "learning_rate": 1.5e-3},
    NEW: {},
}
"""The settings that the search begins with, besides those of `TRAINING`: flags for data2vec, for MLM the arguments of
`peers.text.train_mlm`. They stay as they are, so that the rows of the search go on belonging to it. `finetuning_rate`,
where there is one, is the learning rate of fine-tuning in place of the task's."""
WITH_DROPOUT = {"encoder": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}}
FOUND: Mapping[str, Mapping[str, Any]] = {
    DATA2VEC: {"average_top_k_layers": 1},
    DATA2VEC2: {"learning_rate": 3e-3},
    MLM: {"learning_rate": 3e-3, "mask_ratio": 0.4},
}
"""What the search on the glosses has changed in the settings of some contenders."""
FOUND_ON_BROWN: Mapping[str, Mapping[str, Any]] = {
    **FOUND,
    DATA2VEC2: {**FOUND[DATA2VEC2], "target_layer_norms": ["instance"], "mask_ratio": 0.35},
}
VOCABULARY = 8192
"""Pieces of the tokenizers, which are trained on the texts."""

ON_GLOSSES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    DATA2VEC: [
        {},
        {"vocabulary": 16_384},
        {"mask_ratio": 0.2},
        {"mask_ratio": 0.6},
        {"mask_strategy": "span", "mask_length": 3, "mask_exact": True},
        {"learning_rate": 3e-3},
        {"target_layer_norms": ["layer"]},
        {"target_source": "ffn", "target_layer_norms": ["layer"]},
        {"average_top_k_layers": 1},
        {"ema_decay": 0.999, "ema_end_decay": 0.9999},
        WITH_DROPOUT,
        {"per_device_train_batch_size": 32},
        {"average_top_k_layers": 1, "finetuning_rate": 3e-3},
    ],
    DATA2VEC2: [
        {},
        {"num_masks": 4},
        {"decoder_layers": 3},
        {"mask_ratio": 0.65},
        {"learning_rate": 3e-3},
        {"target_layer_norms": ["instance"]},
        {"learning_rate": 6e-3},
        {"learning_rate": 3e-3, "mask_ratio": 0.65},
        {"learning_rate": 3e-3, "num_masks": 4},
        {"learning_rate": 3e-3, "finetuning_rate": 3e-3},
    ],
    MLM: [
        *(
            {"mask_ratio": ratio, "learning_rate": rate}
            for ratio, rate in itertools.product((0.15, 0.3, 0.4), (0.375e-3, 0.75e-3, 1.5e-3))
        ),
        {"mask_ratio": 0.15, "learning_rate": 3e-3},
        {"mask_ratio": 0.15, "learning_rate": 0.19e-3},
        {"mask_ratio": 0.3, "learning_rate": 0.19e-3},
        {"mask_ratio": 0.15, "learning_rate": 0.375e-3, **WITH_DROPOUT},
        {"mask_ratio": 0.3, "learning_rate": 0.75e-3, "per_device_train_batch_size": 32},
        {"vocabulary": 16_384},
        WITH_DROPOUT,
        {"budget_s": BUDGET, "learning_rate": 0.375e-3, "finetuning_rate": 3e-3, **WITH_DROPOUT},
        {"budget_s": BUDGET, "learning_rate": 1.5e-3, "finetuning_rate": 3e-3, **WITH_DROPOUT},
        {"budget_s": BUDGET, "learning_rate": 0.75e-3, "finetuning_rate": 3e-3, **WITH_DROPOUT},
        {"budget_s": BUDGET, "learning_rate": 1.5e-3, "mask_ratio": 0.4, "finetuning_rate": 3e-3},
        {"budget_s": BUDGET, "learning_rate": 1.5e-3, "mask_ratio": 0.6, "finetuning_rate": 3e-3},
        {"budget_s": BUDGET, "learning_rate": 3e-3, "mask_ratio": 0.4, "finetuning_rate": 3e-3},
        {"budget_s": BUDGET, "learning_rate": 6e-3, "mask_ratio": 0.4, "finetuning_rate": 3e-3},
        {"budget_s": BUDGET, "learning_rate": 3e-3, "mask_ratio": 0.6, "finetuning_rate": 3e-3},
    ],
    NEW: [{}, {"finetuning_rate": 3e-3}, {"finetuning_rate": 6e-3}],
}
"""What the search tries on the glosses: changes to the settings that it begins with.

MLM learns slowly, so that some of its tries have the budget of the table.
"""
ON_BROWN: Mapping[str, Sequence[Mapping[str, Any]]] = {
    DATA2VEC: [
        FOUND[DATA2VEC] | changes
        for changes in (
            {},
            {"finetuning_rate": 2e-3},
            {"learning_rate": 3e-3},
            {"target_layer_norms": ["instance"], "finetuning_rate": 2e-3},
        )
    ],
    DATA2VEC2: [
        FOUND[DATA2VEC2] | changes
        for changes in (
            {},
            {"finetuning_rate": 2e-3},
            {"average_top_k_layers": 1},
            {"mask_ratio": 0.35},
            {"mask_ratio": 0.65},
            {"num_masks": 4},
            {"target_layer_norms": ["instance"]},
            {"target_source": "ffn", "target_layer_norms": ["instance"]},
            {"target_layer_norms": ["instance"], "average_top_k_layers": 1},
            {"target_layer_norms": ["instance"], "mask_ratio": 0.35},
            {"target_layer_norms": ["instance"], "mask_ratio": 0.35, "finetuning_rate": 2e-3},
        )
    ],
    MLM: [
        FOUND[MLM] | changes
        for changes in (
            {},
            {"finetuning_rate": 2e-3},
            {"mask_ratio": 0.15},
            {"learning_rate": 1.5e-3},
            {"budget_s": BUDGET},
            {"budget_s": BUDGET, "finetuning_rate": 2e-3},
        )
    ],
    NEW: [{}, {"finetuning_rate": 2e-3}],
}
"""What it tries on Brown: changes to what has been found on the glosses."""

ALL = {
    "glosses": Texts(
        found=FOUND,
        finetuning_rate=3e-3,
        task={
            "label_column_name": "label",
            "pooling": "mean",
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 32,
        },
        probe_rows=5000,
        labels={
            "few": {"labels_per_class": 20, "max_steps": 200},
            "more": {"labels_per_class": 100, "max_steps": 600},
        },
        searched=ON_GLOSSES,
    ),
    "brown": Texts(
        found=FOUND_ON_BROWN,
        finetuning_rate=2e-3,
        task={
            "task": "token-classification",
            "label_column_name": "tags",
            "learning_rate": 5e-4,
            "per_device_train_batch_size": 16,
            "max_eval_samples": 2000,
        },
        probe_rows=1000,
        labels={
            "few": {"label_fraction": 0.002, "max_steps": 200},
            "more": {"label_fraction": 0.01, "max_steps": 600},
        },
        searched=ON_BROWN,
    ),
}
FINETUNING = {
    "max_seq_length": MAX_TOKENS,
    "train_sampling_strategy": "group_by_length",
    "per_device_eval_batch_size": 128,
    "logging_steps": 50,
}


@dataclass(frozen=True)
class Parts:
    """Parquet files of a part of the data.

    Args:
        texts: to pre-train on, a column `text`. Those of `test` are not among them.
        train: with labels, to fine-tune on; glosses (`text` and `label`) or sentences (`tokens` and `tags`).
        test: the same, to score on.
    """

    texts: Path
    train: Path
    test: Path

    @classmethod
    def of(cls, data: str, scored_on: str, quick: bool) -> "Parts":
        """The parts of some data, which are written if they are not there."""
        folder = PARTS / data / ("quick" if quick else scored_on)
        parts = cls(*(folder / f"{name}.parquet" for name in ("texts", "train", "test")))
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # several runs may begin at the same time
            if not parts.test.is_file():
                rows = PARTED[data](scored_on)
                for part, path in zip(rows, (parts.texts, parts.train, parts.test), strict=True):
                    subset(part, 3000 if quick else len(part), seed=0).to_parquet(path)
        return parts

    def tokenizer(self, vocabulary: int) -> Path:
        """The folder of the tokenizer that is trained on the texts, always the same one, so that tokens are cached."""
        folder = self.texts.parent / f"tokenizer_{vocabulary}"
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                train_tokenizer(read(self.texts)["text"][:], vocabulary).save_pretrained(folder)
        return folder


def part_glosses(scored_on: str) -> tuple[Dataset, Dataset, Dataset]:
    """Texts, and labelled glosses of nouns to train and to score on."""
    texts, labelled = read(DATA / "definitions/train.parquet"), read(DATA / "wordnet/nouns_train.parquet")
    if scored_on == "test":
        return texts, labelled, read(DATA / "wordnet/nouns_validation.parquet")
    split = labelled.train_test_split(HELD_OUT, seed=0, stratify_by_column="label")
    held_out = set(split["test"]["text"][:])
    return texts.filter(lambda row: row["text"] not in held_out), split["train"], split["test"]


def part_brown(scored_on: str) -> tuple[Dataset, Dataset, Dataset]:
    """Texts, and tagged sentences to train and to score on: every tenth document is held out.

    The documents are in the order of their genres. Those of the validation part are every tenth one of the others.
    """
    sentences = read(DATA / "brown/brown.parquet")
    documents = sorted(set(sentences["document"][:]))
    held_out = documents[::10]
    if scored_on == "validation":
        documents = [document for document in documents if document not in held_out]
        held_out = documents[::10]
    train = sentences.filter(lambda row: row["document"] in documents and row["document"] not in held_out)
    test = sentences.filter(lambda row: row["document"] in held_out)
    texts = [" ".join(words) for words in train["tokens"][:]]
    return Dataset.from_dict({"text": texts}), train, test


PARTED: dict[str, Callable[[str], tuple[Dataset, Dataset, Dataset]]] = {"glosses": part_glosses, "brown": part_brown}


def config_of(encoder: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The configuration of the encoder that all contenders have."""
    return AutoConfig.for_model(**encoder, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)


@torch.no_grad()
def word_features(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """The hidden states (N, C) of the first tokens of all words of the sentences, and the words' tags (N,).

    Words beyond the longest text are left out.
    """
    encoder.eval()
    features, tags = [], []
    for batch in sentences.iter(128):
        encoded = tokenizer(
            batch["tokens"],
            is_split_into_words=True,
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        hidden = encoder(**encoded).last_hidden_state
        for row, tags_of_row in enumerate(batch["tags"]):
            words = encoded.word_ids(row)
            first = [place for place, word in enumerate(words) if word is not None and word != words[place - 1]]
            features.append(hidden[row, first])
            tags += [tags_of_row[words[place]] for place in first]
    return torch.cat(features).numpy(), np.array(tags)


class TextTable(Table):
    """Glosses of WordNet with a dictionary, and the Brown corpus split by document."""

    name = "text"
    all_data = tuple(ALL)
    columns = {
        "few": "fine-tuned, few labels",
        "more": "fine-tuned, more labels",
        "linear": "linear",
        "neighbours": "nearest neighbours",
    }
    drawn = "few"
    leads = ((MLM, (DATA2VEC, DATA2VEC2)),)
    shows = "Accuracy after fine-tuning with few labels"

    def runs(self) -> list[Run]:
        return [
            self.run(data, contender, seed, "test", **ALL[data].changes_to(contender))
            for data in self.data
            for contender in CONTENDERS
            for seed in self.seeds
        ]

    def variants(self) -> list[Run]:
        return [
            self.run(data, contender, 0, "validation", **changes)
            for data in self.data
            for contender, all_changes in ALL[data].searched.items()
            for changes in all_changes
        ]

    def run(self, data: str, contender: str, seed: int, scored_on: str, **changes: Any) -> Run:
        """A run of the table ("test") or of the search ("validation": texts and labels held out of the training set).

        Args:
            changes: other values than those the search begins with; `encoder` holds those of some of its fields, and
                `budget_s` is another budget.
        """
        searched = scored_on == "validation"
        changes = {**CONTENDERS[contender], **changes}
        encoder = {**ROFORMER, **changes.pop("encoder", {}), **(TINY if self.quick else {})}
        vocabulary = changes.pop("vocabulary", VOCABULARY)
        settings = {"scored_on": scored_on, "encoder": encoder, "vocabulary": 512 if self.quick else vocabulary}
        if contender == NEW:
            return Run(self.name, data, contender, seed, None, {**settings, **changes})
        budget = changes.pop("budget_s", SEARCH_BUDGET if searched else BUDGET)
        budget = 1 if self.quick else budget
        return Run(self.name, data, contender, seed, budget, {**settings, **TRAINING, **changes})

    def parts(self, run: Run) -> Parts:
        """The files of a run."""
        return Parts.of(run.data, run.settings["scored_on"], self.quick)

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        if run.budget_s is None:
            encoder_dir = folder / "encoder"
            tokenizer = AutoTokenizer.from_pretrained(self.parts(run).tokenizer(run.settings["vocabulary"]))
            set_seed(run.seed)
            AutoModel.from_config(config_of(run.settings["encoder"], tokenizer)).save_pretrained(encoder_dir)
            tokenizer.save_pretrained(encoder_dir)
            return Outcome(0, 0.0, self.scores(run, encoder_dir, folder))
        assert seconds_per_step is not None
        trained = self.train(run, folder, max_steps=steps_for(run.budget_s, seconds_per_step))
        return trained.outcome(self.scores(run, trained.encoder_dir, folder))

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        settings = dict(run.settings)
        for name in ("scored_on", "encoder", "vocabulary", "finetuning_rate"):
            settings.pop(name, None)
        arguments = {**arguments, "seed": run.seed, "use_cpu": self.device == "cpu"}
        parts = self.parts(run)
        tokenizer_dir = parts.tokenizer(run.settings["vocabulary"])
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
        config = config_of(run.settings["encoder"], tokenizer)
        if run.contender == MLM:
            set_seed(run.seed)
            return train_mlm(
                config, read(parts.texts), tokenizer, folder, max_seq_length=MAX_TOKENS, **settings, **arguments
            )
        with TemporaryDirectory() as config_dir:
            config.save_pretrained(config_dir)
            source = {"modality": "text", "train_file": str(parts.texts), "text_column_name": "text"}
            rows = {"line_by_line": True, "max_seq_length": MAX_TOKENS, "validation_split_percentage": 0}
            new_encoder = {"config_name": config_dir, "processor_name": str(tokenizer_dir)}
            return pretrain_data2vec({**source, **rows, **new_encoder, **settings}, folder, **arguments)

    def scores(self, run: Run, encoder_dir: Path, folder: Path) -> dict[str, float]:
        """Fine-tuned with few and with more labels, and by what is read from frozen features.

        On the validation part, the labels are drawn three times and the mean is taken: that of one draw depends on it.
        """
        parts = self.parts(run)
        found = {}
        seeds = [run.seed] if run.settings["scored_on"] == "test" else [0, 1, 2]
        for score, labels in ALL[run.data].labels.items():
            if score == "more" and run.settings["scored_on"] == "validation":
                continue
            recipe = {**FINETUNING, **ALL[run.data].task, **labels, **({"max_steps": 2} if self.quick else {})}
            recipe |= {"train_file": str(parts.train), "validation_file": str(parts.test)}
            recipe |= {"use_cpu": self.device == "cpu"}
            if "finetuning_rate" in run.settings:
                recipe["learning_rate"] = run.settings["finetuning_rate"]
            tuned = [finetuned(encoder_dir, recipe, folder / "finetuned" / score, seed) for seed in seeds]
            found[score] = fmean(scores["accuracy"] for scores in tuned)
        encoder = AutoModel.from_pretrained(encoder_dir, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(encoder_dir)
        labelled = subset(read(parts.train), ALL[run.data].probe_rows, seed=0), read(parts.test)
        if run.data == "brown":
            (train_x, train_y), (test_x, test_y) = (word_features(encoder, tokenizer, rows) for rows in labelled)
            return {**found, "linear": linear_accuracy(train_x, train_y, test_x, test_y)}

        def collate(examples: Sequence[Mapping[str, Any]]) -> Any:
            texts = [example["text"] for example in examples]
            return tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")

        train_x, test_x = (extract_features(encoder, rows, collate, real_tokens, batch_size=128) for rows in labelled)
        return found | frozen_scores(train_x, labels_of(labelled[0]), test_x, labels_of(labelled[1]))


COMPARISON = TextTable
