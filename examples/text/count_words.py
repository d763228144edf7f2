#!/usr/bin/env python
"""A baseline without an encoder: logistic regression on tf-idf, on the rows that run_finetune.py would choose.

    python examples/text/count_words.py examples/text/finetuning/wordnet.json --seeds 0 1 2
    python examples/text/count_words.py examples/protein/finetuning/locations.json --seeds 0 1 2 --analyzer char

It takes the flags and recipes of run_finetune.py. Those about training have no effect.
"""

import logging
import statistics
import sys
from dataclasses import dataclass, field

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modeling_data2vec_generic import cli
from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.finetuning.arguments import FinetuningArguments, TaskArguments
from modeling_data2vec_generic.finetuning.labelled_rows import chosen_rows, parted_rows, read_rows
from modeling_data2vec_generic.training.arguments import ModelArguments

logger = logging.getLogger("count_words")


@dataclass
class CountingArguments:
    """The flags of this script alone."""

    analyzer: str = field(
        default="word", metadata={"help": "What is counted: word, or char (single characters, such as amino acids)."}
    )


def main() -> None:
    groups = (ModelArguments, DataArguments, TaskArguments, FinetuningArguments, CountingArguments)
    flags = cli.flags_of_words(sys.argv[1:], groups, "finetune")
    model_args, data_args, task_args, training_args, counting_args = cli.parse(flags.all, groups)
    cli.start_logging(training_args)
    logger.setLevel(logging.INFO)
    task_type, data_args, splits = read_rows(data_args, task_args)
    task = task_type(model_args, data_args, task_args, training_args)
    parted = parted_rows(task.encode(splits), task, data_args)
    accuracies = []
    for seed in task_args.seeds or [training_args.seed]:
        rows = chosen_rows(parted, task, task_args, seed)
        classifier = make_pipeline(
            TfidfVectorizer(analyzer=counting_args.analyzer, sublinear_tf=True),
            LogisticRegression(C=10, max_iter=1000),
        )
        classifier.fit(rows["train"]["text"][:], rows["train"]["label"][:])
        accuracies.append(classifier.score(rows["validation"]["text"][:], rows["validation"]["label"][:]))
        logger.info(f"seed {seed}: {accuracies[-1]:.4f}")
    logger.info(f"mean: {statistics.fmean(accuracies):.4f}")


if __name__ == "__main__":
    main()
