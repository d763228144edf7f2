"""Proteins: data2vec and data2vec 2.0 beside masked language modelling, new weights and counted amino acids.

All encoders are the same ESM, pre-trained on pieces of proteins; none of these is tested, nor is one like it. What is
scored is where proteins of bacteria are, one of five places, with few labels of each, from their first 510 residues.
Features are the mean over all tokens. The search is scored on training proteins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset
from filelock import FileLock
from transformers import EsmConfig, EsmModel, PreTrainedTokenizerBase, set_seed

from modeling_data2vec_generic.evaluation.probe import extract_features, labels_of, real_tokens
from modeling_data2vec_generic.finetuning.splitting import per_class
from modeling_data2vec_generic.modalities.text.amino_acids import amino_acid_tokenizer

from ..parquet import read
from ..peers.text import train_mlm
from ..scores.encoders import finetuned, frozen_scores
from ..table import Outcome, Run, Table
from ..training import Trained, pretrain_data2vec, steps_for

DATA = Path("data/protein_locations")
PARTS = Path("output/compare/proteins/parts")
PLACES = ["Cytoplasmic", "CytoplasmicMembrane", "Extracellular", "OuterMembrane", "Periplasmic"]
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
BUDGET = 60  # CPU seconds
PIECE = 126  # residues of a sample of pre-training
RESIDUES = 510  # that are scored, of each protein
ENDS = 2  # tokens in front of and behind the residues
LABELS_PER_CLASS = 50
SEARCHED = 110  # labelled training proteins of each place that the search takes; there are 114 of the rarest
DRAWS = range(5)
DATA2VEC, DATA2VEC2, MLM, NEW = "data2vec", "data2vec 2.0", "MLM", "new weights"
COUNTED = {
    "amino acids, the same residues": {"residues": RESIDUES, "longest": 1},
    "amino acids, whole proteins": {"residues": None, "longest": 1},
    "amino acids and pairs, whole proteins": {"residues": None, "longest": 2},
}
"""Baselines without an encoder: shares of the amino acids, and of pairs of neighbours."""

ENCODER = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 1026,
    "position_embedding_type": "rotary",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TRAINING = {
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "max_grad_norm": 5.0,
}
OURS = {"learning_rate": 5e-4, "ema_decay": 0.99, "ema_end_decay": 0.999}
CONTENDERS: dict[str, dict[str, Any]] = {
    DATA2VEC: {
        **TRAINING,
        **OURS,
        "objective": "data2vec",
        "average_top_k_layers": 2,
        "target_layer_norms": ["instance"],
    },
    DATA2VEC2: {
        **TRAINING,
        **OURS,
        "objective": "data2vec2",
        "num_masks": 4,
        "decoder_dim": 64,
        "decoder_layers": 3,
        "decoder_groups": 4,
    },
    MLM: {**TRAINING, "learning_rate": 1e-3, "mask_ratio": 0.15},
    NEW: {},
    **COUNTED,
}
"""The settings that the search begins with."""
FOUND: Mapping[str, Mapping[str, Any]] = {DATA2VEC: {"learning_rate": 2e-4}, DATA2VEC2: {"learning_rate": 2e-4}}
"""What the search has changed in the settings of some contenders."""
LIKE_TEXT: list[dict[str, Any]] = [
    {"target_source": "block", "target_layer_norms": ["batch"], "learning_rate": rate} for rate in (5e-4, 1.5e-3)
]
"""Targets that were good on glosses."""
TRIES: dict[str, list[dict[str, Any]]] = {
    DATA2VEC: [{}, {"learning_rate": 2e-4}, {"learning_rate": 1e-3}, {"mask_ratio": 0.4}, *LIKE_TEXT],
    DATA2VEC2: [{}, {"learning_rate": 2e-4}, {"learning_rate": 1e-3}, {"mask_ratio": 0.3}, *LIKE_TEXT],
    MLM: [{}, {"learning_rate": 4e-4}, {"learning_rate": 3e-3}, {"mask_ratio": 0.4}],
}
FINETUNING = {
    "text_column_name": "sequence",
    "label_column_name": "place",
    "labels_per_class": LABELS_PER_CLASS,
    "max_seq_length": RESIDUES + ENDS,
    "learning_rate": 1e-3,
    "max_steps": 60,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
}


class ProteinTable(Table):
    """Places of proteins, at one budget."""

    name = "proteins"
    all_data = ("places",)
    columns = {"linear": "linear", "neighbours": "nearest neighbours", "finetuned": "fine-tuned"}
    drawn = "linear"
    leads = ((NEW, (DATA2VEC, DATA2VEC2, MLM)), (MLM, (DATA2VEC, DATA2VEC2)))
    shows = "Accuracy of a linear classifier"

    def runs(self) -> list[Run]:
        return [
            self.run(contender, seed, "test", **FOUND.get(contender, {}))
            for _ in self.data
            for contender in CONTENDERS
            for seed in self.seeds
        ]

    def variants(self) -> list[Run]:
        return [
            self.run(contender, 0, "validation", **changes)
            for contender, tries in TRIES.items()
            for changes in tries
            if not self.quick
        ]

    def run(self, contender: str, seed: int, scored_on: str, **changes: Any) -> Run:
        """A run of the table ("test") or of the search ("validation"); `changes` are other values of settings."""
        settings = {"scored_on": scored_on, **CONTENDERS[contender], **changes}
        if contender in COUNTED:
            return Run(self.name, "places", contender, seed, None, settings)
        settings["encoder"] = ENCODER
        budget = None if contender == NEW else 1 if self.quick else BUDGET
        return Run(self.name, "places", contender, seed, budget, settings)

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        if run.contender in COUNTED:
            return Outcome(0, 0.0, counted_scores(run))
        if seconds_per_step is None:
            encoder_dir = folder / "encoder"
            tokenizer = amino_acid_tokenizer()
            set_seed(run.seed)
            EsmModel(config_of(run, tokenizer), add_pooling_layer=False).save_pretrained(encoder_dir)
            tokenizer.save_pretrained(encoder_dir)
            return Outcome(0, 0.0, self.scores(run, encoder_dir, folder))
        assert run.budget_s is not None
        trained = self.train(run, folder, max_steps=steps_for(run.budget_s, seconds_per_step))
        return trained.outcome(self.scores(run, trained.encoder_dir, folder))

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        settings = dict(run.settings)
        encoder = settings.pop("encoder")
        del settings["scored_on"]
        arguments = {**settings, **arguments, "seed": run.seed, "use_cpu": self.device == "cpu"}
        length = PIECE + ENDS
        if run.contender == MLM:
            tokenizer = amino_acid_tokenizer()
            set_seed(run.seed)
            return train_mlm(
                config_of(run, tokenizer), read(pieces()), tokenizer, folder, max_seq_length=length, **arguments
            )
        recipe = {
            "modality": "text",
            "train_file": str(pieces()),
            "text_column_name": "text",
            "line_by_line": True,
            "max_seq_length": length,
            "validation_split_percentage": 0,
            "model_type": "esm",
            "config_overrides": ",".join(f"{name}={value}" for name, value in encoder.items()),
        }
        return pretrain_data2vec(recipe, folder, **arguments)

    def scores(self, run: Run, encoder_dir: Path, folder: Path) -> dict[str, float]:
        """With few labels, frozen and, of runs that are scored on the test proteins, fine-tuned."""
        encoder, tokenizer = EsmModel.from_pretrained(encoder_dir, add_pooling_layer=False), amino_acid_tokenizer()

        def collate(examples: Sequence[Mapping[str, Any]]) -> Any:
            sequences = [example["sequence"] for example in examples]
            return tokenizer(sequences, padding=True, truncation=True, max_length=RESIDUES + ENDS, return_tensors="pt")

        found = scores_of_features(
            *(
                (extract_features(encoder, rows, collate, real_tokens, batch_size=16), labels_of(rows))
                for rows in labelled(run)
            )
        )
        if run.settings["scored_on"] == "test":
            tokenizer.save_pretrained(encoder_dir)  # that of pre-training cuts proteins at the length of its pieces
            files = {
                "train_file": str(DATA / "train.parquet"),
                "validation_file": str(DATA / "test.parquet"),
            }
            recipe = FINETUNING | files | {"use_cpu": self.device == "cpu"} | ({"max_steps": 2} if self.quick else {})
            found["finetuned"] = finetuned(encoder_dir, recipe, folder / "finetuned", run.seed)["accuracy"]
        return found


Part = tuple[np.ndarray, np.ndarray]
"""Features (N, C) and labels (N,) of proteins."""


def scores_of_features(train: Part, test: Part | None = None) -> dict[str, float]:
    """The accuracies of features.

    Args:
        train: proteins whose labels are used.
        test: proteins to test on. None for a search, where the labels of some of the training proteins are used and
            the others are tested on: the mean over five choices.
    """
    if test is not None:
        return frozen_scores(*train, *test)
    features, labels = train
    found = []
    for seed in DRAWS:
        few = per_class(labels, LABELS_PER_CLASS, seed, PLACES)
        others = np.setdiff1d(np.arange(len(labels)), few)
        found.append(frozen_scores(features[few], labels[few], features[others], labels[others]))
    return {name: fmean(scores[name] for scores in found) for name in found[0]}


def counted_scores(run: Run) -> dict[str, float]:
    """The scores of counted amino acids."""
    residues, longest = run.settings["residues"], run.settings["longest"]
    return scores_of_features(
        *(
            (np.stack([counts(sequence[:residues], longest) for sequence in rows["sequence"][:]]), labels_of(rows))
            for rows in labelled(run)
        )
    )


def counts(sequence: str, longest: int) -> np.ndarray:
    """The share of each of the 20 amino acids, (20,), and with `longest` 2 that of each pair of neighbours, (420,)."""
    places = np.array([AMINO_ACIDS.index(residue) for residue in sequence if residue in AMINO_ACIDS])
    shares = np.bincount(places, minlength=20) / len(places)
    if longest == 1:
        return shares
    pairs = 20 * places[:-1] + places[1:]
    return np.concatenate([shares, np.bincount(pairs, minlength=400) / len(pairs)])


def labelled(run: Run) -> list[Dataset]:
    """Proteins with the columns `sequence` and `label`, as many of each place.

    Returns:
        Those whose labels are used, which are those that fine-tuning with this seed chooses, and those to test on; or,
        for a search, training proteins alone.
    """
    is_test = run.settings["scored_on"] == "test"
    train, *test = (
        read(DATA / f"{name}.parquet").rename_column("place", "label").cast_column("label", ClassLabel(names=PLACES))
        for name in (("train", "test") if is_test else ("train",))
    )
    count, seed = (LABELS_PER_CLASS, run.seed) if is_test else (SEARCHED, 0)
    return [train.select(per_class(labels_of(train), count, seed, PLACES)), *test]


def pieces() -> Path:
    """A parquet file with a column `text`: a piece of each protein to pre-train on, from anywhere in it."""
    path = PARTS / "pieces.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # several runs may begin at the same time
        if not path.is_file():
            lines = (DATA / "pretraining.fasta").read_text(encoding="utf-8").splitlines()
            proteins = [line for line in lines if not line.startswith(">")]
            starts = np.random.default_rng(0).integers([max(1, len(protein) - PIECE + 1) for protein in proteins])
            cut = [protein[start : start + PIECE] for protein, start in zip(proteins, starts, strict=True)]
            Dataset.from_dict({"text": cut}).to_parquet(path)
    return path


def config_of(run: Run, tokenizer: PreTrainedTokenizerBase) -> EsmConfig:
    """The configuration of a run's encoder."""
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "mask")}
    return EsmConfig(**run.settings["encoder"], vocab_size=len(tokenizer), **ids)


COMPARISON = ProteinTable
