"""The trainer: when and how the teacher moves, what is logged, and that a resumed run is the run itself."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    DataCollatorForData2VecText,
    MaskSampler,
)
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer

from ..tiny import sentences, tiny_encoder

VOCABULARY = 300


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(sentences(40), VOCABULARY)


@pytest.fixture
def lines(tokenizer: Any) -> list[dict[str, Any]]:
    """16 lines of 4 to 12 words and more tokens."""
    encoded = tokenizer(sentences(16), return_special_tokens_mask=True)
    return [
        {"input_ids": ids, "special_tokens_mask": special, "sample_index": i}
        for i, (ids, special) in enumerate(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True))
    ]


@pytest.fixture
def collator(tokenizer: Any) -> DataCollatorForData2VecText:
    return DataCollatorForData2VecText(tokenizer, MaskSampler("random", 0.4))


def new_model(seed: int = 0, dropout: float = 0.0, **settings: Any) -> Data2VecGenericForPreTraining:
    set_seed(seed)
    encoder = tiny_encoder("bert", vocab_size=VOCABULARY, hidden_dropout_prob=dropout)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return Data2VecGenericForPreTraining(Data2VecGenericConfig(**settings), encoder)


def new_trainer(
    output_dir: Path, model: Any, collator: Any, train: Any, callbacks: Any = (), evaluation: Any = None, **flags: Any
) -> Data2VecTrainer:
    """Plain SGD, so that weights show gradients as they are."""
    probe = {name: flags.pop(name) for name in ("feature_metrics", "eval_data_collator") if name in flags}
    defaults = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 0.1, "optim": "sgd"}
    defaults |= {"lr_scheduler_type": "constant", "max_grad_norm": 0.0, "logging_steps": 1, "save_strategy": "no"}
    defaults |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True}
    arguments = Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags)
    return Data2VecTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=collator,
        callbacks=list(callbacks),
        **probe,
    )


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max().item() <= tolerance, name


def logged(trainer: Data2VecTrainer, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


class Snapshots(TrainerCallback):
    """Student and teacher after each optimizer step, and the teacher after each micro-batch before it."""

    def __init__(self) -> None:
        self.students: list[dict[str, torch.Tensor]] = []
        self.teachers: list[dict[str, torch.Tensor]] = []
        self.between: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.students.append(weights(model.encoder))
        self.teachers.append(weights(model.teacher))

    def on_substep_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.between.append(weights(model.teacher))


# --- the teacher


@pytest.mark.parametrize("accumulation", [1, 3])
def test_teacher__takes_one_step_of_the_formula_per_optimizer_step(accumulation, lines, collator, tmp_path):
    model, seen = new_model(), Snapshots()
    expected = weights(model.teacher)
    trainer = new_trainer(
        tmp_path,
        model,
        collator,
        lines,
        [seen],
        max_steps=5,
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=2,
        ema_decay=0.5,
        ema_end_decay=0.9,
        ema_anneal_steps=4,
    )
    trainer.train()
    assert trainer.teacher_updates == 5
    decays = [0.6, 0.7, 0.8, 0.9, 0.9]  # by hand: .5 + (.9 - .5) * update / 4, then constant
    for decay, student, teacher in zip(decays, seen.students, seen.teachers, strict=True):
        expected = {name: decay * old + (1 - decay) * student[name] for name, old in expected.items()}
        assert_close(teacher, expected, 1e-6)
    assert logged(trainer, "ema_decay") == pytest.approx(decays)


def test_teacher__stands_still_between_the_micro_batches_of_a_step(lines, collator, tmp_path):
    model, seen = new_model(), Snapshots()
    start = weights(model.teacher)
    flags = {"gradient_accumulation_steps": 2, "max_steps": 2, "ema_decay": 0.5, "ema_end_decay": 0.5}
    new_trainer(tmp_path, model, collator, lines, [seen], **flags).train()
    assert len(seen.between) == 2
    assert_close(seen.between[0], start, 0.0)
    assert_close(seen.between[1], seen.teachers[0], 0.0)


def test_teacher__does_not_move_after_a_skipped_optimizer_step(lines, collator, tmp_path, monkeypatch):
    model, seen = new_model(), Snapshots()
    flags = {"max_steps": 4, "ema_decay": 0.5, "ema_end_decay": 0.9, "ema_anneal_steps": 4}
    trainer = new_trainer(tmp_path, model, collator, lines, [seen], **flags)
    # fp16's loss scaling skips a step and says so here; two of the four are.
    skipped = property(lambda accelerator: trainer.state.global_step in (1, 2))
    monkeypatch.setattr(type(trainer.accelerator), "optimizer_step_was_skipped", skipped)
    trainer.train()
    assert trainer.teacher_updates == 2
    assert_close(seen.teachers[1], seen.teachers[0], 0.0)
    assert_close(seen.teachers[2], seen.teachers[0], 0.0)
    decay = 0.7  # that of the second update, though it is the fourth step
    expected = {name: decay * old + (1 - decay) * seen.students[3][name] for name, old in seen.teachers[2].items()}
    assert_close(seen.teachers[3], expected, 1e-6)
    assert logged(trainer, "ema_decay") == pytest.approx([0.6, 0.6, 0.6, 0.7])


COPIED = {
    "vit": ("embeddings.",),
    "beit": ("embeddings.",),
    "bert": ("embeddings.",),
    "roberta": ("embeddings.",),
    "wav2vec2": ("feature_extractor.", "feature_projection."),
    "data2vec-audio": ("feature_extractor.", "feature_projection."),
}
INPUTS = {
    "pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
    "input_ids": torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0)),
    "input_values": torch.randn(2, 3000, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("model_type", COPIED)
def test_teacher_embeddings_copy__copies_the_embeddings_and_averages_the_rest(model_type, tmp_path):
    set_seed(0)
    encoder = tiny_encoder(model_type)
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(teacher_embeddings="copy"), encoder)
    inputs = {model.main_input_name: INPUTS[model.main_input_name]}
    positions = {"pixel_values": 16, "input_ids": 9, "input_values": 8}[model.main_input_name]
    mask = torch.zeros(2, 1, positions, dtype=torch.bool)
    mask[:, :, 2:5] = True
    model(mask=mask, **inputs)
    trainer = new_trainer(tmp_path, model, None, [], ema_decay=0.75, ema_end_decay=0.75)
    before = weights(model.teacher)
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight += 1.0
    trainer.step_teacher()
    student, teacher = weights(model.encoder), weights(model.teacher)
    # The student's own mask embedding and what never trains are read by no teacher.
    trained = {name for name, weight in model.encoder.named_parameters() if weight.requires_grad}
    trained -= {name for name in trained if name.endswith(("mask_token", "masked_spec_embed"))}
    copied = {name for name in trained if name.startswith(COPIED[model_type])}
    averaged = trained - copied
    assert [name for name in copied if not torch.equal(teacher[name], student[name])] == []
    for name in averaged:
        assert torch.allclose(teacher[name], 0.75 * before[name] + 0.25 * student[name], atol=1e-6), name
    assert copied
    assert any("pos_conv_embed" in name for name in averaged) == (model.main_input_name == "input_values")
    assert {name for name in averaged if "layer" in name}


# --- the loss


def test_micro_batches__equal_one_batch_of_all_their_samples(lines, collator, tmp_path):
    masked = [collator([line])["mask"].sum().item() for line in lines]
    assert len(set(masked)) > 2  # so that a mean of the micro-batches' means would be another loss
    results = []
    for size, accumulation in ((8, 1), (2, 4), (1, 8)):
        model = new_model()
        flags = {"max_steps": 4, "per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        flags |= {"ema_decay": 0.5, "ema_end_decay": 0.5}
        trainer = new_trainer(tmp_path / str(size), model, collator, lines, **flags)
        trainer.train()
        results.append((logged(trainer, "loss"), weights(model), trainer.teacher_updates))
    for losses, state, updates in results[1:]:
        assert losses == pytest.approx(results[0][0], rel=1e-5)
        assert_close(state, results[0][1])
        assert updates == 4


def test_micro_batches__cls_loss_adds_up_over_a_step_too(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = [
        {"pixel_values": torch.randn(3, 16, 16, generator=generator), "mask": torch.arange(16)[None] < 3 + i % 4}
        for i in range(8)
    ]
    results = []
    for size, accumulation in ((8, 1), (2, 4)):
        set_seed(0)
        model = Data2VecGenericForPreTraining(Data2VecGenericConfig(cls_loss_weight=0.5), tiny_encoder("vit"))
        flags = {"max_steps": 3, "per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        trainer = new_trainer(tmp_path / str(size), model, torch.utils.data.default_collate, images, **flags)
        trainer.train()
        results.append((logged(trainer, "loss"), weights(model)))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-5)
    assert_close(results[1][1], results[0][1])


# --- how it is run


@pytest.mark.parametrize("compiled_first", [True, False])
def test_torch_compile__shows_in_no_name_and_is_free_to_change_on_resuming(compiled_first, lines, collator, tmp_path):
    flags = {"ema_decay": 0.5, "ema_end_decay": 0.9, "ema_anneal_steps": 4, "save_strategy": "steps", "save_steps": 2}
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    torch._dynamo.reset()
    plain = new_trainer(tmp_path / "plain", new_model(), collator, lines, **flags)
    plain.train()
    first, second = (compiled, {}) if compiled_first else ({}, compiled)
    new_trainer(tmp_path / "first", new_model(), collator, lines, **flags | first | {"max_steps": 2}).train()
    checkpoint = tmp_path / "first" / "checkpoint-2"
    for file in checkpoint.glob("*.safetensors"):
        assert not [name for name in load_file(file) if "_orig_mod" in name]
    loaded = Data2VecGenericForPreTraining.from_pretrained(checkpoint)
    assert set(weights(loaded)) == set(weights(plain.model))
    trainer = new_trainer(tmp_path / "second", new_model(seed=9), collator, lines, **flags | second)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert_close(weights(trainer.model), weights(plain.model))
    assert logged(trainer, "loss") == pytest.approx(logged(plain, "loss"), rel=1e-4)
    assert trainer.teacher_updates == 4
    start = weights(new_model().teacher)
    moved = [name for name, tensor in weights(trainer.model.teacher).items() if not torch.equal(tensor, start[name])]
    assert any("layer.1" in name for name in moved)


def test_schedules__in_epochs_are_those_in_steps(lines, collator, tmp_path):
    # 16 lines in micro-batches of 2, 3 to a step: 3 steps an epoch, the last of them shorter.
    flags = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "lr_scheduler_type": "linear"}
    flags |= {"warmup_steps": 2, "ema_decay": 0.5, "ema_end_decay": 0.9, "max_steps": -1}
    runs = [
        new_trainer(tmp_path, new_model(), collator, lines, **flags | length)
        for length in ({"num_train_epochs": 2}, {"max_steps": 6})
    ]
    for trainer in runs:
        trainer.train()
        assert trainer.teacher_updates == 6
        assert logged(trainer, "learning_rate") == pytest.approx([0, 0.05, 0.1, 0.075, 0.05, 0.025])
        assert logged(trainer, "ema_decay") == pytest.approx([0.5 + 0.4 * step / 6 for step in range(1, 7)])
    assert_close(weights(runs[0].model), weights(runs[1].model), 0.0)


# --- batches of samples of similar length


class SeenBatches:
    """A collator that keeps the samples of each batch."""

    def __init__(self, collator: DataCollatorForData2VecText):
        self.collator, self.positions = collator, collator.positions
        self.batches: list[tuple[list[int], tuple[int, ...]]] = []

    def set_epoch(self, epoch: int) -> None:
        self.collator.set_epoch(epoch)

    def __call__(self, examples: Any) -> dict[str, Any]:
        batch = self.collator(examples)
        samples = [example["sample_index"] for example in examples]
        self.batches.append((samples, tuple(batch["input_ids"].shape)))
        return batch


def test_max_tokens_per_batch__counts_steps_samples_and_epochs(lines, collator, tmp_path):
    seen = SeenBatches(collator)
    flags = {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 2, "max_tokens_per_batch": 64}
    flags |= {"reference_batch_size": 4, "warmup_steps": 40, "eval_data_collator": collator}
    trainer = new_trainer(tmp_path, new_model(), seen, lines, **flags)
    trainer.train()
    per_epoch = len(trainer.get_train_dataloader())
    assert trainer.state.max_steps == trainer.state.global_step == 2 * math.ceil(per_epoch / 2)
    assert trainer.state.epoch == 2
    epochs = [seen.batches[:per_epoch], seen.batches[per_epoch:]]
    for epoch in epochs:
        assert sorted(sample for samples, _ in epoch for sample in samples) == list(range(16))
        assert max(rows * length for _, (rows, length) in epoch) <= 64
    assert epochs[0] != epochs[1]
    samples = round(16 / per_epoch * 2)
    assert trainer.settings_of_run()["samples_per_step"] == samples
    assert trainer.args.warmup_steps == round(40 * 4 / samples)


def test_max_tokens_per_batch__resumes_within_an_epoch(lines, collator, tmp_path):
    flags = {"max_steps": 7, "gradient_accumulation_steps": 2, "max_tokens_per_batch": 64, "optim": "adamw_torch"}
    flags |= {"save_strategy": "steps", "save_steps": 5}  # after 1 of 4 steps of the second epoch
    flags |= {"eval_data_collator": collator}
    whole, seen = SeenBatches(collator), SeenBatches(collator)
    trainer = new_trainer(tmp_path, new_model(dropout=0.1), whole, lines, **flags)
    trainer.train()
    assert math.ceil(len(trainer.get_train_dataloader()) / 2) == 4
    resumed = new_trainer(tmp_path / "resumed", new_model(seed=9, dropout=0.1), seen, lines, **flags)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert seen.batches == whole.batches[-len(seen.batches) :]
    assert logged(resumed, "loss") == logged(trainer, "loss")
    assert_close(weights(resumed.model), weights(trainer.model), 0.0)


def test_max_tokens_per_batch__is_lowered_with_the_batch_size_that_is_found(lines, collator, tmp_path):
    seen = SeenBatches(collator)
    flags = {"max_steps": 1, "max_tokens_per_batch": 128, "auto_find_batch_size": True}
    trainer = new_trainer(tmp_path, new_model(), seen, lines, [OutOfMemory()], **flags)
    trainer.train()
    assert trainer.state.train_batch_size == 3
    assert 64 < max(rows * length for _, (rows, length) in seen.batches[-1:]) <= 96


class OutOfMemory(TrainerCallback):
    """Runs out of memory until batches are smaller than 4."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.train_batch_size >= 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate more.")


def test_max_tokens_per_batch__of_samples_without_a_length_is_an_error(tmp_path):
    images = [{"pixel_values": torch.zeros(3, 16, 16)}]
    trainer = new_trainer(tmp_path, new_model(), None, images, max_tokens_per_batch=64)
    with pytest.raises(ValueError, match=r"max_tokens_per_batch=64 is for loaded text and speech"):
        trainer.train()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_tokens_per_batch": 0}, "must be 1 or more"),
        ({"train_sampling_strategy": "sequential"}, "does not go with train_sampling_strategy=sequential"),
        ({"accelerator_config": {"split_batches": True}}, "can't be used with split_batches"),
    ],
)
def test_max_tokens_per_batch__refuses_what_contradicts_it(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Data2VecTrainingArguments(output_dir=str(tmp_path), **{"max_tokens_per_batch": 64} | flags)


# --- what is logged


def spread(rows: torch.Tensor) -> float:
    return float(np.sqrt(rows.detach().double().numpy().var(axis=0, ddof=1) + 1e-6).mean())


def test_log__holds_the_values_of_the_step(lines, collator, tmp_path):
    model = new_model()
    batch = collator(lines)  # one batch is the whole data
    outputs = copy.deepcopy(model).train()(**batch)
    flags = {"max_steps": 1, "per_device_train_batch_size": 16, "ema_decay": 0.9, "ema_end_decay": 0.99}
    trainer = new_trainer(tmp_path, model, collator, lines, **flags, ema_anneal_steps=9)
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    expected = {
        "loss": outputs.loss.item(),
        "learning_rate": 0.1,
        "ema_decay": 0.91,
        "target_std": spread(outputs.targets),
        "prediction_std": spread(outputs.predictions),
        "mask_ratio": batch["mask"].sum().item() / batch["attention_mask"].sum().item(),
        "padding": 1 - batch["attention_mask"].float().mean().item(),
    }
    assert expected["padding"] > 0
    assert {name: entry[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_log__holds_means_since_the_last_one_and_masks_change_with_the_epoch(lines, collator, tmp_path):
    model, spreads, ratios = new_model(), [], []
    for epoch in range(3):  # the weights stay, so only the masks differ
        collator.set_epoch(epoch)
        batch = collator(lines)
        outputs = copy.deepcopy(model).train()(**batch)
        spreads.append(spread(outputs.predictions))
        ratios.append(batch["mask"].sum().item() / batch["attention_mask"].sum().item())
    collator.set_epoch(0)
    assert len(set(spreads)) == 3
    flags = {"max_steps": 3, "per_device_train_batch_size": 16, "learning_rate": 0.0, "logging_steps": 3}
    trainer = new_trainer(tmp_path, model, collator, lines, **flags)
    trainer.train()
    assert logged(trainer, "prediction_std") == pytest.approx([np.mean(spreads)], rel=1e-5)
    assert logged(trainer, "mask_ratio") == pytest.approx([np.mean(ratios)], rel=1e-6)


def test_evaluation__masks_alike_each_time_and_reports_what_features_are_worth(lines, collator, tmp_path):
    model, calls = new_model(), []

    def feature_metrics(encoder: torch.nn.Module) -> dict[str, float]:
        calls.append(encoder)
        return {"knn_accuracy": 0.5 + 0.1 * len(calls)}

    flags = {"learning_rate": 0.0, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 16}
    evaluation = collator.for_evaluation()
    trainer = new_trainer(
        tmp_path,
        model,
        collator,
        lines,
        evaluation=lines,
        max_steps=2,
        per_device_train_batch_size=16,
        feature_metrics=feature_metrics,
        eval_data_collator=evaluation,
        **flags,
    )
    expected = copy.deepcopy(model).eval()(**evaluation(lines))
    trainer.train()
    initial = trainer.initial_metrics()
    assert initial.pop("init_probe_runtime") > 0
    assert initial == {"init_knn_accuracy": pytest.approx(0.6)}
    assert logged(trainer, "eval_knn_accuracy") == pytest.approx([0.7, 0.8])
    assert calls == [model.encoder] * 3
    assert logged(trainer, "eval_loss") == pytest.approx([expected.loss.item()] * 2, rel=1e-5)
    assert logged(trainer, "eval_target_std") == pytest.approx([spread(expected.targets)] * 2, rel=1e-5)
    assert logged(trainer, "eval_prediction_std") == pytest.approx([spread(expected.predictions)] * 2, rel=1e-5)
    assert len(logged(trainer, "target_std")) == 2  # of training, apart from those of the evaluation


def test_evaluation__of_a_single_masked_position_is_finite(lines, tokenizer, tmp_path):
    short = {"input_ids": [2, 10, 11, 3], "special_tokens_mask": [1, 0, 0, 1], "sample_index": 99}
    collator = DataCollatorForData2VecText(tokenizer, MaskSampler("random", 0.15))
    assert collator([short])["mask"].sum() == 1
    flags = {"per_device_eval_batch_size": 16}
    trainer = new_trainer(tmp_path, new_model(), collator, lines, evaluation=[*lines, short], **flags)
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_target_std"])
    assert math.isfinite(metrics["eval_prediction_std"])


# --- checkpoints


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume__equals_the_run_that_was_not_interrupted(dtype, lines, collator, tmp_path):
    # Steps 3 and 6 lie in the middle of the first and the second epoch; dropout draws from the random state.
    flags = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3, "ema_decay": 0.5, "ema_end_decay": 0.9}
    flags |= {"optim": "adamw_torch", "learning_rate": 0.01, "lr_scheduler_type": "linear"}
    whole = new_trainer(tmp_path, new_model(dropout=0.1).to(dtype), collator, lines, **flags)
    whole.train()
    fresh = new_model(seed=9, dropout=0.1).to(dtype)
    resumed = new_trainer(tmp_path / "resumed", fresh, collator, lines, **flags)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for key in ("loss", "ema_decay", "target_std", "prediction_std", "mask_ratio", "learning_rate"):
        assert logged(resumed, key) == logged(whole, key), key
        assert len(logged(resumed, key)) == 7
    assert resumed.teacher_updates == whole.teacher_updates == 7
    assert_close(weights(resumed.model), weights(whole.model), 0.0)
    mine, its = resumed.teacher_progress.ema.state_dict(), whole.teacher_progress.ema.state_dict()
    assert bool(mine) == (dtype == torch.bfloat16)
    assert_close(mine, its, 0.0)


def test_resume__keeps_the_metrics_of_the_first_encoder(lines, collator, tmp_path):
    flags = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    first = new_trainer(tmp_path, new_model(), collator, lines, feature_metrics=lambda _: {"score": 0.25}, **flags)
    first.train()
    again = new_trainer(tmp_path, new_model(), collator, lines, feature_metrics=lambda _: {"score": 0.75}, **flags)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.initial_metrics()["init_score"] == 0.25


def test_load_best_model__with_the_average_and_count_of_that_step(lines, collator, tmp_path):
    flags = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    flags |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_score", "ema_decay": 0.5}
    scores = iter([0.1, 0.2, 0.9, 0.3, 0.4])  # one before the first step: step 2 is the best
    model = new_model().bfloat16()
    evaluated = {"evaluation": lines, "feature_metrics": lambda _: {"score": next(scores)}}
    trainer = new_trainer(tmp_path, model, collator, lines, **evaluated, **flags)
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert trainer.teacher_updates == 2
    trainer.step_teacher()
    wanted = load_file(tmp_path / "checkpoint-2" / "teacher.safetensors")
    for name, accumulator in trainer.teacher_progress.ema.state_dict().items():
        moved = torch.lerp(
            wanted[f"accumulator.{name}"], model.encoder.get_parameter(name).float(), 1 - trainer.ema_decay
        )
        torch.testing.assert_close(accumulator, moved, rtol=0, atol=1e-6)


def test_resume__without_the_teachers_state_is_refused(lines, collator, tmp_path):
    flags = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    new_trainer(tmp_path, new_model(), collator, lines, **flags).train()
    (tmp_path / "checkpoint-1" / "teacher.safetensors").unlink()
    trainer = new_trainer(tmp_path, new_model(), collator, lines, **flags)
    with pytest.raises(FileNotFoundError, match="checkpoint-1 has no teacher.safetensors.*save_only_model"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_save_encoder__writes_the_plain_student(lines, collator, tmp_path):
    model = new_model()
    trainer = new_trainer(tmp_path, model, collator, lines, max_steps=1)
    trainer.train()
    trainer.save_encoder()
    loaded = type(model.encoder).from_pretrained(tmp_path / "encoder")
    assert_close(weights(loaded), weights(model.encoder), 0.0)


# --- arguments


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ema_decay": 0.99, "ema_end_decay": 0.9}, "ema_decay=0.99 is above ema_end_decay=0.9.*swap them"),
        ({"ema_decay": 1.5}, "ema_decay=1.5 is a share and must lie between 0 and 1"),
        ({"ema_end_decay": -0.5, "ema_decay": 0}, "ema_end_decay=-0.5 is a share"),
        ({"ema_anneal_steps": 0}, "ema_anneal_steps=0 must be at least 1"),
    ],
)
def test_arguments__schedules_that_make_no_sense_are_refused(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Data2VecTrainingArguments(output_dir=str(tmp_path), **flags)
