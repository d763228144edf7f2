"""A pre-training run, from its flags to its report. `pretrain` is its entry in Python, `main` that of the commands."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import set_seed

from .. import cli
from ..data.quality.bad_rows import BadRows
from ..data.quality.screening import listing, screened_together
from ..data.sources.raw_datasets import infer_modality, load_raw_datasets
from ..data.sources.streamed_source import WindowPreparation, open_stream
from ..data.streams.sample_stream import SampleStream
from ..data.summary import log_summary, summarized
from ..evaluation.probe import Probe
from ..hub.push import exit_code
from ..masking.sampler import MaskSampler
from ..modalities import modality_class
from ..modalities.presets import mask_settings, objective_config
from ..modeling_data2vec_generic import Data2VecGenericForPreTraining
from ..reporting.dry_run import report_pretraining as report_dry_pretraining
from ..reporting.pictures import pictures_of, shown_batch
from ..reporting.run_report import report
from ..reporting.run_summary import RunSummary, about_card, about_data, about_training, about_weights
from ..training.checkpointing.output_dir import claim, resumed_checkpoint
from ..training.encoders import load_encoder, main_input_of, new_encoder, new_encoder_config
from ..training.hub_trainer import check_access
from ..training.loaders import loader_settings
from ..training.settings import check_evaluation, refuse_several_devices
from ..training.trainer import ENCODER_DIR, Data2VecTrainer
from . import dry_run
from .arguments import PRETRAINING as ARGUMENTS
from .chosen import chooses, log_chosen, with_output_dir, with_settings
from .settings import pretraining_settings


@dataclass(frozen=True)
class PretrainingRun:
    """A finished pre-training run.

    Of a dry run, `metrics` are estimates of what the run would take, and nothing is in the folders but a picture.

    Args:
        trainer: holds the trained model (`trainer.model`) and what was logged (`trainer.state.log_history`).
        metrics: what `all_results.json` holds, by name.
        output_dir: folder of the whole model, the model card, the figures and the metrics.
        encoder_dir: folder of the plain encoder and its processor, for AutoModel.
    """

    trainer: Data2VecTrainer
    metrics: dict[str, Any]
    output_dir: Path
    encoder_dir: Path


def pretrain(recipe: str | PathLike[str] | Mapping[str, Any] | None = None, **settings: Any) -> PretrainingRun:
    """Pre-trains an encoder, as `data2vec pretrain` does. It may be called several times in one process.

        run = pretrain("digits", max_steps=100, output_dir="output/short")
        run.metrics["eval_knn_accuracy"], run.trainer.model.encoder
        run = pretrain(train_dir="photos")  # neither a recipe nor an encoder: settings are chosen for data and device

    Args:
        recipe: a recipe by its name ("digits"), its path or its content (a dictionary); None for none.
        settings: values by the names of the flags (`data2vec pretrain --help_all` lists them), which override those of
            the recipe. None is the default of a flag, also where the recipe has another value.

    Returns:
        The finished run.

    Raises:
        ValueError: there is no such recipe or setting, or one has a value that cannot be used. It is raised before
            training.
        PushError: with `push_to_hub`, the trained model is saved but could not be pushed.
        SystemExit: the run was stopped by SIGTERM or SIGUSR1, after a checkpoint was saved.
    """
    return run(cli.flags_of_settings(recipe, settings, "pretrain"))


def parse(argv: list[str]) -> tuple:
    """One instance of each of ARGUMENTS, from the words of a command line. Its flags override those of a recipe."""
    return cli.parse(cli.flags_of_words(argv, ARGUMENTS, "pretrain").all, ARGUMENTS)


def main(argv: list[str] | None = None) -> None:
    """Pre-trains as the words of a command line say; default: those of this process."""
    with exit_code():
        run(cli.flags_of_words(sys.argv[1:] if argv is None else argv, ARGUMENTS, "pretrain"))


@summarized()
def run(flags: cli.Flags) -> PretrainingRun:
    """Pre-trains as the flags say: loads the data, builds the model, trains, and reports."""
    model_args, data_args, mask_args, objective_args, training_args = cli.parse(flags.all, ARGUMENTS)
    cli.start_logging(training_args)
    cli.require_inputs(flags, ARGUMENTS)
    if is_chosen := chooses(flags, model_args):
        flags = with_output_dir(flags, data_args, training_args)
        *_, training_args = cli.parse(flags.all, ARGUMENTS)
    else:
        model_args.require_encoder()
    refuse_several_devices(training_args)
    if data_args.streaming and training_args.max_steps < 1:
        raise ValueError("A stream has no end: say how many steps to train with --max_steps.")
    if data_args.streaming and training_args.max_tokens_per_batch is not None:
        raise ValueError(
            f"max_tokens_per_batch={training_args.max_tokens_per_batch} needs the lengths of all samples before the "
            "first step, which a stream does not have. Set --per_device_train_batch_size and "
            "--train_sampling_strategy group_by_length in its place, or train without --streaming."
        )
    asked = training_args
    if asked.dry_run is not None:
        training_args = dry_run.without_traces(asked)
    checkpoint = resumed_checkpoint(training_args)
    check_access(training_args)
    claim(training_args)
    set_seed(training_args.seed)

    bad_rows = None
    if training_args.process_index == 0:
        bad_rows = BadRows(training_args.output_dir, start_over=checkpoint is None)
    # Rows of a stream are listed by their numbers in the source, once they are read.
    listed_first = None if data_args.streaming else bad_rows
    with training_args.main_process_first(desc="loading the data"), listing(listed_first):
        modality_name = infer_modality(data_args, partial(main_input_of, model_args))
        source = open_stream(data_args, modality_name, training_args.seed) if data_args.streaming else None
        raw = load_raw_datasets(data_args, modality_name) if source is None else source.head
        check_evaluation(asked, "validation" in raw)
        if is_chosen:
            parsed = (model_args, data_args, mask_args, objective_args, asked)
            flags = with_settings(flags, parsed, raw, modality_name)
            model_args, data_args, mask_args, objective_args, asked = cli.parse(flags.all, ARGUMENTS)
            training_args = asked if asked.dry_run is None else dry_run.without_traces(asked)
            source = None if source is None else source.prepared_by(data_args)
            if asked.dry_run is None:
                log_chosen(flags)
        modality = modality_class(modality_name)(model_args, data_args, raw["train"])
        modality.lengths_wanted = (
            training_args.max_tokens_per_batch is not None
            or training_args.train_sampling_strategy == "group_by_length"
        )
    if model_args.model_name_or_path is not None:
        encoder = load_encoder(model_args)
    else:
        encoder_config = new_encoder_config(model_args, modality.encoder_defaults())
        encoder = new_encoder(encoder_config, model_args.trust_remote_code)
    modality.fit(encoder)
    mask_choice = mask_settings(mask_args, objective_args.objective, modality_name)
    mask = MaskSampler(**{name.removeprefix("mask_"): value for name, value in mask_choice.items()})
    modality.check(mask)
    config = objective_config(objective_args, encoder.config, modality_name)
    model = Data2VecGenericForPreTraining(config, encoder)
    if data_args.packing:
        model.require_documents()

    # All settings are checked before the data are, since that may take long.
    streamed = source is not None
    with training_args.main_process_first(desc="preparing the data"), screened_together(raw, listed_first, streamed):
        prepared = {split: modality.prepare(rows, split, mask) for split, rows in raw.items()}
        labelled = {split: modality.prepare_labelled(rows, split, prepared[split]) for split, rows in raw.items()}
    if asked.dry_run is None:
        log_summary()
    collator = modality.collator(mask, config.num_masks, training_args.seed, config.student_input)
    probe = None
    if "validation" in raw:
        probe = Probe(
            train=labelled["train"],
            test=prepared["validation"] if labelled["validation"] is None else labelled["validation"],
            collate=collator.finished_on_device().plain,
            content_mask=modality.content_mask(),
            batch_size=training_args.per_device_eval_batch_size,
            max_train_samples=training_args.probe_train_samples,
            max_test_samples=training_args.probe_test_samples,
            seed=training_args.seed,
            loader_settings=loader_settings(training_args),
        )
    stream = None
    if source is not None:
        stream = SampleStream(
            rows=source.rows,
            prepare=WindowPreparation(
                data_args, modality_name, source.chosen, partial(modality.prepare, split="train", mask=mask)
            ),
            rows_in_memory=data_args.shuffle_buffer_size,
            seed=training_args.seed,
            max_bad_fraction=data_args.max_bad_fraction,
            by_length=training_args.train_sampling_strategy == "group_by_length",
        )
    trainer = Data2VecTrainer(
        model=model,
        args=training_args,
        train_dataset=stream or prepared["train"],
        eval_dataset=prepared.get("validation"),
        data_collator=collator,
        eval_data_collator=collator.for_evaluation(),
        processing_class=modality.processor,
        feature_metrics=probe,
        stream_identity=None if source is None else source.identity,
        max_bad_fraction=data_args.max_bad_fraction,
        bad_rows=bad_rows,
    )
    output_dir = Path(str(training_args.output_dir))
    parsed = (model_args, data_args, mask_args, objective_args, asked)

    if asked.dry_run is not None:
        found = dry_run.take_steps(trainer)
        settings = pretraining_settings(flags, parsed, modality_name, config, mask_choice, training_args)
        report_dry_pretraining(
            trainer,
            found,
            asked,
            settings,
            modality,
            lambda path: modality.plot_masks(shown_batch(prepared["train"], collator, asked.seed), path),
        )
        return PretrainingRun(trainer, found.metrics(), output_dir, output_dir / ENCODER_DIR)
    pictures = pictures_of(trainer, modality, prepared, labelled, collator)
    if pictures is not None:
        trainer.add_callback(pictures)
    metrics = train_and_save(trainer, checkpoint)
    figures = [] if pictures is None else pictures.write()
    if trainer.is_world_process_zero():
        settings = pretraining_settings(flags, parsed, modality_name, config, mask_choice, training_args)
        report(
            output_dir=output_dir,
            summary=RunSummary(
                name=output_dir.resolve().name,
                model_type=encoder.config.model_type,
                modality=modality_name,
                num_parameters=encoder.num_parameters(),
                source_rows=None if stream else len(raw["train"]),
                eval_rows=len(prepared["validation"]) if "validation" in prepared else None,
                **about_weights(model_args),
                **about_data(data_args),
                **about_training(trainer, None if stream else len(prepared["train"])),
                **about_card(training_args, settings),
            ),
            log_history=trainer.state.log_history,
            figures=figures,
        )
    if training_args.push_to_hub:
        trainer.push_saved()
    return PretrainingRun(trainer, metrics, output_dir, output_dir / ENCODER_DIR)


def train_and_save(trainer: Data2VecTrainer, checkpoint: str | None) -> dict[str, Any]:
    """Trains, evaluates the trained model, and saves model, encoder, metrics and state. Returns the metrics."""
    trained = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.log_metrics("train", trained.metrics)
    trainer.save_metrics("train", trained.metrics)
    metrics: dict[str, Any] = dict(trained.metrics)
    if trainer.eval_dataset is not None:
        evaluated, initial = trainer.final_metrics(), trainer.initial_metrics()
        trainer.log_metrics("eval", evaluated)
        trainer.save_metrics("eval", evaluated)
        trainer.save_metrics("init", initial)
        metrics |= evaluated | initial
    health = trainer.health_metrics()
    trainer.save_metrics("health", health)
    trainer.save_model()
    trainer.save_state()
    trainer.save_encoder()
    return metrics | health
