"""Settings that cannot work are refused with their name before anything else is done."""

import pytest
import torch

from modeling_data2vec_generic import Data2VecTrainer
from modeling_data2vec_generic.finetuning.arguments import FinetuningArguments, TaskArguments
from modeling_data2vec_generic.training.arguments import Data2VecTrainingArguments, RunArguments
from modeling_data2vec_generic.training.base_trainer import ResumableTrainer
from modeling_data2vec_generic.training.settings import check_evaluation

from ..tiny import from_scratch, run
from .small_runs import trainer


def arguments(**settings: object) -> RunArguments:
    return RunArguments(output_dir="out", use_cpu=True, **settings)


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("per_device_train_batch_size", 0, "1 or more"),
        ("per_device_eval_batch_size", -1, "1 or more"),
        ("gradient_accumulation_steps", 0, "1 or more"),
        ("dataloader_num_workers", -1, "0 or more"),
        ("learning_rate", -1e-3, "0 or more"),
        ("learning_rate", NAN, "0 or more"),
        ("learning_rate", float("inf"), "0 or more"),
        ("max_grad_norm", -1.0, "0 or more"),
        ("adam_beta2", 1.0, r"in \[0, 1\)"),
        ("seed", -1, "between 0 and 4294967295"),
        ("data_seed", 2**32, "between 0 and 4294967295"),
        ("max_steps", 0, "1 or more. Leave it out"),
        ("max_steps", -2, "1 or more. Leave it out"),
        ("num_train_epochs", 0, "above 0: no step would be taken"),
        ("num_train_epochs", NAN, "above 0"),
        ("logging_steps", 0, "above 0, or a share of all below 1. For none, set logging_strategy=no"),
        ("save_steps", -5, "above 0.*save_strategy=no"),
        ("remove_unused_columns", True, "Leave it out"),
        ("lr_scheduler_kwargs", "{", "is not valid JSON"),
        ("lr_scheduler_kwargs", "a=1", "is not an object in JSON"),
        ("fsdp_config", "nowhere.json", "is not a JSON file"),
    ],
)
def test_setting__out_of_its_range(name, value, expected):
    with pytest.raises(ValueError, match=f"^{name}=.*{expected}"):
        arguments(**{name: value})


def test_steps__count_only_where_the_strategy_asks_for_them():
    arguments(logging_strategy="no", logging_steps=0, save_strategy="no", save_steps=0)
    assert arguments(num_train_epochs=0, max_steps=3).max_steps == 3
    with pytest.raises(ValueError, match=r"eval_steps=-1 must .*eval_strategy=no"):
        arguments(eval_strategy="steps", eval_steps=-1)


@pytest.mark.parametrize("name", ["probe_train_samples", "probe_test_samples"])
def test_probe__has_samples(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be 1 or more"):
        Data2VecTrainingArguments(output_dir="out", use_cpu=True, **{name: 0})


def test_seeds__are_in_their_range():
    with pytest.raises(ValueError, match="seeds=-1 must be between"):
        TaskArguments(seeds=[1, -1])


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ({"report_to": "tensorboard"}, "tensorboard"),
        ({"report_to": ["wandb"]}, "wandb"),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "deepspeed"),
        ({"use_liger_kernel": True}, "liger-kernel"),
        ({"optim": "adamw_bnb_8bit"}, "bitsandbytes"),
    ],
)
def test_package__that_is_not_installed_is_named(settings, package, monkeypatch):
    place = "modeling_data2vec_generic.training.settings"
    monkeypatch.setattr(f"{place}.get_available_reporting_integrations", lambda: [])
    monkeypatch.setattr(f"{place}.is_deepspeed_available", lambda: False)
    monkeypatch.setattr(f"{place}.is_liger_kernel_available", lambda: False)
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False, raising=False)
    with pytest.raises(ValueError, match=f"{next(iter(settings))}.*install.* {package}"):
        arguments(**settings)


def test_report_to__is_known():
    with pytest.raises(ValueError, match="report_to='tensorbord' is unknown: choose among .*tensorboard"):
        arguments(report_to="tensorbord")


@pytest.mark.parametrize(
    ("kind", "settings"), [("cosine_with_min_lr", None), ("warmup_stable_decay", None), ("linear", {"power": 2})]
)
def test_schedule__that_cannot_be_made(kind, settings):
    with pytest.raises(
        ValueError, match=f"lr_scheduler_type='{kind}' cannot be used with lr_scheduler_kwargs={settings}"
    ):
        arguments(lr_scheduler_type=kind, lr_scheduler_kwargs=settings)


def test_checks__draw_no_random_numbers():
    before = torch.get_rng_state()
    arguments()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("prediction_loss_only", True), ("batch_eval_metrics", True), ("eval_do_concat_batches", False)],
)
def test_finetuning__needs_all_predictions(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}, but every run ends with metrics"):
        FinetuningArguments(output_dir="out", use_cpu=True, **{name: value})


@pytest.mark.parametrize("settings", [{"eval_strategy": "epoch"}, {"eval_on_start": True}])
def test_evaluation__needs_rows(settings):
    wanted = arguments(**settings)
    check_evaluation(wanted, has_rows=True)
    check_evaluation(arguments(), has_rows=False)
    with pytest.raises(ValueError, match=r"asks for evaluations.*--validation_split_percentage.*--eval_strategy no"):
        check_evaluation(wanted, has_rows=False)


# --- one process trains on one device, whether it pre-trains or fine-tunes

WHAT_TO_DO = r"sees 3 GPUs.*`torchrun --nproc_per_node 3 .*`accelerate launch --num_processes 3 "


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunArguments, "n_gpu", property(lambda arguments: 3))


def test_several_gpus__are_refused_by_the_trainer(tmp_path):
    model = trainer(tmp_path).model
    for trainer_class in (Data2VecTrainer, ResumableTrainer):
        arguments = Data2VecTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
        arguments._n_gpu = 3
        with pytest.raises(ValueError, match=WHAT_TO_DO):
            trainer_class(model=model, args=arguments, train_dataset=[])


@pytest.mark.usefixtures("three_gpus")
def test_several_gpus__are_refused_before_the_data_are_read(tmp_path):
    with pytest.raises(ValueError, match=WHAT_TO_DO):
        run(*from_scratch("vit"), "--train_dir", str(tmp_path / "not there"), output_dir=tmp_path)


@pytest.mark.parametrize(
    ("device", "given", "non_blocking"),
    [
        ("cuda", {}, True),
        ("cuda", {"dataloader_pin_memory": False}, False),
        ("cuda", {"accelerator_config": {"even_batches": True}}, False),
        ("cpu", {}, False),
    ],
)
def test_batches__are_copied_without_waiting_where_memory_is_pinned(device, given, non_blocking, monkeypatch):
    monkeypatch.setattr(RunArguments, "device", torch.device(device))
    assert RunArguments(output_dir="out", **given).accelerator_config.non_blocking == non_blocking
