"""A fine-tuning run, from its flags to its report; run_finetune.py calls it."""

import copy
import sys
from functools import partial
from pathlib import Path

from transformers import set_seed

from .. import cli
from ..data.arguments import DataArguments
from ..data.quality.bad_rows import BadRows
from ..data.quality.screening import listing, screened_together
from ..data.summary import log_summary, summarized
from ..finetuning.arguments import FinetuningArguments, TaskArguments
from ..finetuning.comparison import Comparison, methods_of
from ..finetuning.defaults import with_defaults
from ..finetuning.labelled_rows import chosen_rows, parted_rows, paths_of, read_rows
from ..finetuning.models import load_source
from ..finetuning.tasks import refuse_flags_of_others
from ..reporting.finetuning import report_comparison, report_predictions
from ..training.arguments import ModelArguments
from ..training.checkpointing.output_dir import claim
from ..training.encoders import main_input_of
from ..training.settings import refuse_several_devices

ARGUMENTS = (ModelArguments, DataArguments, TaskArguments, FinetuningArguments)


@summarized()
def main(argv: list[str] | None = None) -> None:
    flags = cli.flags_of(sys.argv[1:] if argv is None else argv, ARGUMENTS)
    model_args, data_args, task_args, training_args = cli.parse(flags, ARGUMENTS)
    cli.start_logging(training_args)
    refuse_several_devices(training_args)
    seeds = task_args.seeds or [training_args.seed]
    for seed in seeds:
        for method in task_args.methods:
            claim(arguments_of(seed, method, task_args, training_args))

    bad_rows = BadRows(training_args.output_dir, start_over=True) if training_args.process_index == 0 else None
    with training_args.main_process_first(desc="loading the data"), listing(bad_rows):
        task_type, data_args, splits = read_rows(data_args, task_args, partial(main_input_of, model_args))
    _, _, task_args, training_args = with_defaults(task_type, splits["train"].features["label"], flags, ARGUMENTS)
    refuse_flags_of_others(task_type, task_args, training_args)
    methods = methods_of(task_type, task_args, model_args)
    metrics: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    for seed in seeds:
        set_seed(seed)
        task = task_type(model_args, data_args, task_args, arguments_of(seed, "", task_args, training_args))
        with training_args.main_process_first(desc="choosing the rows"), screened_together(splits, bad_rows):
            parted = parted_rows(task.encode(splits), task, data_args)
            task.read(parted["train"])
            rows = chosen_rows(parted, task, task_args, seed)
        source = load_source(model_args, task.modality.encoder_defaults())
        task.fit(source.encoder)
        with training_args.main_process_first(desc="preparing the data"), screened_together(rows, bad_rows):
            samples = {split: task.prepare(dataset, split) for split, dataset in rows.items()}
        log_summary()  # for further seeds, only what is new about their rows
        paths = paths_of(rows["validation"], task.modality_name)
        comparison = Comparison(methods, source, task, samples, task_args)
        for method in methods:
            run_args = arguments_of(seed, method, task_args, training_args)
            result = comparison.run(method, run_args)
            metrics[method].append(result.metrics)
            if training_args.process_index == 0:
                report_predictions(task, result, samples["validation"], paths, Path(str(run_args.output_dir)))
    if (task_args.compare or task_args.seeds) and training_args.process_index == 0:
        report_comparison(metrics, seeds, task.main_metric, Path(str(training_args.output_dir)))


def arguments_of(
    seed: int, method: str, task_args: TaskArguments, training_args: FinetuningArguments
) -> FinetuningArguments:
    """The training arguments of one run. If there are several runs, each has its own output directory, seed-N/METHOD.

    Raises:
        ValueError: several runs are to be resumed from one checkpoint.
    """
    run_args = copy.copy(training_args)
    run_args.seed = seed
    folders = [f"seed-{seed}"] * bool(task_args.seeds) + [method] * task_args.compare
    checkpoint = training_args.resume_from_checkpoint
    if folders and checkpoint is not None and str(checkpoint).lower() not in ("true", "false"):
        raise ValueError(
            f"resume_from_checkpoint={checkpoint!r} is a checkpoint of one run, and these are several. With 'true' "
            "each resumes from its own."
        )
    run_args.output_dir = str(Path(str(training_args.output_dir), *folders))
    return run_args
