"""A fine-tuning run, from its flags to its report. `finetune` is its entry in Python, `main` that of the commands."""

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import set_seed

from .. import cli
from ..data.quality.bad_rows import BadRows
from ..data.quality.screening import listing, screened_together
from ..data.summary import log_summary, summarized
from ..finetuning.arguments import ON_FROZEN_FEATURES, FinetuningArguments, TaskArguments
from ..finetuning.comparison import Comparison, methods_of
from ..finetuning.defaults import with_defaults
from ..finetuning.labelled_rows import chosen_rows, parted_rows, paths_of, read_rows
from ..finetuning.models import load_source
from ..finetuning.tasks import refuse_flags_of_others
from ..finetuning.trainer import FinetuningTrainer
from ..hub.push import exit_code
from ..reporting.dry_run import report_finetuning as report_dry_finetuning
from ..reporting.finetuning import (
    compared,
    report_comparison,
    report_predictions,
    summarised,
    summary_of,
    write_finetuned_card,
)
from ..reporting.provenance import Setting
from ..reporting.run_summary import RunSummary, about_card
from ..training.checkpointing.output_dir import claim
from ..training.encoders import main_input_of
from ..training.hub_trainer import check_access
from ..training.settings import refuse_several_devices
from . import dry_run
from .arguments import FINETUNING as ARGUMENTS
from .settings import finetuning_settings


@dataclass(frozen=True)
class FinetuningRun:
    """A finished fine-tuning run, or the runs of a comparison and of several seeds.

    Of a dry run, `metrics` are estimates of what one of the runs would take.

    Args:
        trainer: holds the model with its head (`trainer.model`). Of several runs, that of the last one; None for
            nearest neighbours and the linear probe, which train no model.
        metrics: what `all_results.json` of `output_dir` holds, by name. Of several seeds, means and 95% confidence
            intervals; of a comparison, with the method in front of each name.
        output_dir: folder of the model, the predictions, the figures and the metrics. Several runs have folders in it.
        encoder_dir: the folder whose encoder AutoModel loads, which is that of the trainer's model; None without one.
    """

    trainer: FinetuningTrainer | None
    metrics: dict[str, float]
    output_dir: Path
    encoder_dir: Path | None


def finetune(recipe: str | PathLike[str] | Mapping[str, Any] | None = None, **settings: Any) -> FinetuningRun:
    """Fine-tunes an encoder on a labelled task, as `data2vec finetune` does.

        run = finetune(model_name_or_path="output/digits", dataset_name="digits", output_dir="output/finetuned")
        run.metrics["eval_accuracy"]

    Args:
        recipe: a recipe for fine-tuning by its name ("digits"), its path or its content (a dictionary); None for none.
        settings: values by the names of the flags (`data2vec finetune --help_all` lists them), which override those of
            the recipe. None is the default of a flag, also where the recipe has another value.

    Returns:
        The finished run.

    Raises:
        ValueError: there is no such recipe or setting, or one has a value that cannot be used. It is raised before
            training.
        PushError: with `push_to_hub`, the trained model is saved but could not be pushed.
        SystemExit: the run was stopped by SIGTERM or SIGUSR1, after a checkpoint was saved.
    """
    return run(cli.flags_of_settings(recipe, settings, "finetune"))


def main(argv: list[str] | None = None) -> None:
    """Fine-tunes as the words of a command line say; default: those of this process."""
    with exit_code():
        run(cli.flags_of_words(sys.argv[1:] if argv is None else argv, ARGUMENTS, "finetune"))


@summarized()
def run(flags: cli.Flags) -> FinetuningRun:
    """Fine-tunes as the flags say: loads the data, builds the models, trains, and reports."""
    model_args, data_args, task_args, training_args = cli.parse(flags.all, ARGUMENTS)
    model_args.require_encoder()
    cli.start_logging(training_args)
    cli.require_inputs(flags, ARGUMENTS)
    refuse_several_devices(training_args)
    require_one_model(task_args, training_args)
    is_dry = training_args.dry_run is not None
    if is_dry:
        training_args = dry_run.without_traces(training_args)
    check_access(training_args)
    seeds = task_args.seeds or [training_args.seed]
    for seed in seeds:
        for method in task_args.methods:
            claim(training_args if is_dry else arguments_of(seed, method, task_args, training_args))

    bad_rows = BadRows(training_args.output_dir, start_over=True) if training_args.process_index == 0 else None
    with training_args.main_process_first(desc="loading the data"), listing(bad_rows):
        task_type, data_args, splits = read_rows(data_args, task_args, partial(main_input_of, model_args))
    _, _, task_args, training_args = with_defaults(task_type, splits["train"].features["label"], flags.all, ARGUMENTS)
    refuse_flags_of_others(task_type, task_args, training_args)
    methods = methods_of(task_type, task_args, model_args)
    metrics: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    trainer: FinetuningTrainer | None = None
    encoder_dir: Path | None = None
    output_dir = Path(str(training_args.output_dir))
    summaries: dict[Path, RunSummary] = {}
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
        if not is_dry:
            log_summary()  # for further seeds, only what is new about their rows
        paths = paths_of(rows["validation"], task.modality_name)
        comparison = Comparison(methods, source, task, samples, task_args)
        if is_dry:
            settings = finetuning_settings(flags, (model_args, data_args, task_args, training_args), task)
            return dry(comparison, training_args, settings, len(seeds))
        for method in methods:
            run_args = arguments_of(seed, method, task_args, training_args)
            trainer = None  # so that the model of the run before does not take memory any longer
            result = comparison.run(method, run_args)
            metrics[method].append(result.metrics)
            trainer, run_dir = result.trainer, Path(str(run_args.output_dir))
            encoder_dir = None if trainer is None else run_dir
            if training_args.process_index == 0:
                report_predictions(task, result, samples["validation"], paths, run_dir)
                if trainer is not None:
                    parsed = (model_args, data_args, task_args, trainer.args)
                    settings = finetuning_settings(flags, parsed, task)
                    about = summary_of(task, trainer, samples, result.metrics, method, output_dir.resolve().name)
                    summaries[run_dir] = replace(about, **about_card(training_args, settings))
                    write_finetuned_card(run_dir, summaries[run_dir])
            del result  # it holds the trainer too
            if training_args.push_to_hub and trainer is not None:
                trainer.push_saved()
    results = metrics[methods[-1]][-1]
    if task_args.compare or task_args.seeds:
        table = compared(metrics, task.main_metric)
        results = summarised(table)
        if training_args.process_index == 0:
            comparison_table = report_comparison(table, seeds, task.main_metric, output_dir)
            for run_dir, summary in summaries.items():
                write_finetuned_card(run_dir, replace(summary, comparison=comparison_table))
    return FinetuningRun(trainer, results, output_dir, encoder_dir)


def dry(comparison: Comparison, asked: FinetuningArguments, settings: Sequence[Setting], seeds: int) -> FinetuningRun:
    """Takes some steps of the last of the methods that train a model, and prints what the run would be.

    Args:
        asked: the training arguments that were asked for.
        settings: those of the run.
        seeds: how many seeds it has.
    """
    own = dry_run.without_traces(asked)
    methods = [method for method in comparison.names if method not in ON_FROZEN_FEATURES]
    trainer, cost = None, None
    if methods:
        trainer = comparison.trainer(own, pretrained=methods[-1] == "finetuned")
        cost = dry_run.take_steps(trainer)
    if own.process_index == 0:
        encoder = comparison.source.encoder
        report_dry_finetuning(trainer, cost, asked, settings, encoder, len(methods) * seeds)
    return FinetuningRun(trainer, {} if cost is None else cost.metrics(), Path(str(own.output_dir)), None)


def require_one_model(task_args: TaskArguments, training_args: FinetuningArguments) -> None:
    """A repository holds one model.

    Raises:
        ValueError: a run that trains none, or several, is to be pushed.
    """
    if not training_args.push_to_hub:
        return
    if task_args.compare or task_args.seeds:
        raise ValueError(
            "push_to_hub=True is for one model, and --compare and --seeds train several. Leave it out, and push the "
            f"one that you choose: data2vec push {training_args.output_dir}/..."
        )
    if task_args.methods[0] in ON_FROZEN_FEATURES:
        raise ValueError(f"push_to_hub=True: --{task_args.methods[0]} trains no model that could be pushed.")


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
