"""Steps that met NaN or infinity: nothing moves, they are counted, and the samples are named."""

import copy
import itertools
import logging
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModel, PatchTSTConfig, TrainerCallback, set_seed

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, Data2VecTrainingArguments
from modeling_data2vec_generic.training.trainer import Data2VecTrainer

from ...processes import run_two
from ...tiny import tiny_encoder

Tensors = dict[str, torch.Tensor]
BAD = [math.nan, math.inf, -math.inf]


def image(index: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(index)
    mask = torch.rand(1, 16, generator=generator).argsort(-1) < 4 + index % 3
    return {"pixel_values": torch.randn(3, 16, 16, generator=generator), "mask": mask, "sample_index": 100 + index}


def spoiled(index: int, value: float = math.nan) -> dict[str, Any]:
    sample = image(index)
    sample["pixel_values"][1, 7, 9] = value
    return sample


def collate(examples: list[dict[str, Any]]) -> Tensors:
    """As the library's own collators, without the sample's index."""
    return {name: torch.stack([example[name] for example in examples]) for name in ("pixel_values", "mask")}


def new_model(**settings: Any) -> Data2VecGenericForPreTraining:
    set_seed(0)
    return Data2VecGenericForPreTraining(Data2VecGenericConfig(**settings), tiny_encoder("vit"))


class Snapshots(TrainerCallback):
    """All that a step may move, after each one."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.optimizers: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.states.append(copy.deepcopy(kwargs["model"].state_dict()))
        self.optimizers.append(copy.deepcopy(kwargs["optimizer"].state_dict()["state"]))


def new_trainer(
    output_dir: Path,
    samples: Any,
    model: Any = None,
    callbacks: Any = (),
    collator: Any = collate,
    evaluation: Any = None,
    optimizers: Any = (None, None),
    **flags: Any,
) -> Data2VecTrainer:
    defaults = {"num_train_epochs": 1, "per_device_train_batch_size": 2, "learning_rate": 0.01, "optim": "adamw_torch"}
    defaults |= {"lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no", "report_to": "none"}
    defaults |= {"train_sampling_strategy": "sequential", "disable_tqdm": True, "use_cpu": True}
    defaults |= {"ema_decay": 0.5, "ema_end_decay": 0.5}
    arguments = Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags)
    return Data2VecTrainer(
        model=new_model() if model is None else model,
        args=arguments,
        train_dataset=samples,
        eval_dataset=evaluation,
        data_collator=collator,
        callbacks=list(callbacks),
        optimizers=optimizers,
    )


def logged(trainer: Data2VecTrainer, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def assert_equal(one: Any, other: Any) -> None:
    """Bit for bit, in nested dictionaries."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def spoil_loss(model: torch.nn.Module, forwards: set[int]) -> None:
    """The predictor gives NaN in these forward passes of the training, counted from 0."""
    calls = iter(range(10**6))

    def spoil(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * math.nan if module.training and next(calls) in forwards else output

    model.predictor.register_forward_hook(spoil)


def spoil_gradients(model: torch.nn.Module, backwards: set[int]) -> None:
    """One bias gets an infinite gradient in these backward passes; losses stay finite."""
    calls = iter(range(10**6))
    bias = next(weight for name, weight in model.predictor.named_parameters() if name.endswith("bias"))
    bias.register_hook(lambda grad: grad * (math.inf if next(calls) in backwards else 1.0))


def spoil_nothing(model: torch.nn.Module, passes: set[int]) -> None:
    pass


# --- nothing moves


@pytest.mark.parametrize(
    ("second", "spoil", "flags"),
    [
        (spoiled(2), spoil_nothing, {"optim": "adamw_torch"}),
        (spoiled(2, math.inf), spoil_nothing, {"optim": "adamw_torch_fused"}),
        (spoiled(2, -math.inf), spoil_nothing, {"optim": "sgd", "optim_args": "momentum=0.9", "max_grad_norm": 0.0}),
        (image(2), spoil_loss, {"optim": "adagrad"}),
        (image(2), spoil_gradients, {"optim": "adafactor"}),
        (image(2), spoil_gradients, {"optim": "adamw_torch_fused", "max_grad_norm": 0.0}),
    ],
)
def test_bad_step__moves_nothing_bit_for_bit(second, spoil: Callable, flags, tmp_path):
    model, seen = new_model(), Snapshots()
    spoil(model, {1})  # the second of three passes
    samples = [image(0), image(1), second, image(3), image(4), image(5)]
    trainer = new_trainer(tmp_path, samples, model, [seen], **flags)
    trainer.train()
    assert_equal(seen.states[1], seen.states[0])
    assert_equal(seen.optimizers[1], seen.optimizers[0])
    assert trainer.teacher_updates == 2
    assert not torch.equal(seen.states[2]["predictor.weight"], seen.states[1]["predictor.weight"])
    # As if there had been no second batch at all.
    other, unspoiled = Snapshots(), samples[:2] + samples[4:]
    new_trainer(tmp_path, unspoiled, None, [other], **flags).train()
    assert_equal(seen.states[2], other.states[1])


@pytest.mark.parametrize("optimizer", [None, torch.optim.SGD])
def test_bad_first_step__leaves_no_trace_in_a_fused_optimizer(optimizer, tmp_path):
    ends = []
    for samples in ([spoiled(0), *(image(i) for i in range(1, 6))], [image(i) for i in range(2, 6)]):
        model = new_model()
        own = optimizer and optimizer(model.parameters(), lr=0.01, momentum=0.9, fused=True)
        trainer = new_trainer(tmp_path, samples, model, optim="adamw_torch_fused", optimizers=(own, None))
        trainer.train()
        ends.append(model.state_dict() | {"optimizer": trainer.optimizer.state_dict()["state"]})
    assert_equal(*ends)


def test_batches__are_not_kept_in_memory_for_the_warnings(tmp_path):
    batches: list[weakref.ref] = []
    alive: list[int] = []

    def collate_noting(examples: list[dict[str, Any]]) -> Tensors:
        batch = collate(examples)
        if len(examples) == 2:  # those of training
            batches.append(weakref.ref(batch["pixel_values"]))
        return batch

    class Looks(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            alive.append(sum(batch() is not None for batch in batches[: state.global_step]))  # of earlier steps

    trainer = new_trainer(tmp_path, [image(i) for i in range(8)], callbacks=[Looks()], collator=collate_noting)
    trainer.train()
    assert alive == [0] * 4


def test_bad_micro_batch__makes_the_whole_step_bad(tmp_path):
    seen = Snapshots()
    samples = [image(i) for i in range(12)]
    samples[6] = spoiled(6)  # the second micro-batch of the second step
    trainer = new_trainer(tmp_path, samples, None, [seen], gradient_accumulation_steps=2)
    trainer.train()
    assert_equal(seen.states[1], seen.states[0])
    assert_equal(seen.optimizers[1], seen.optimizers[0])
    assert not torch.equal(seen.states[2]["predictor.weight"], seen.states[1]["predictor.weight"])
    assert trainer.teacher_updates == 2


def test_bad_step__leaves_the_statistics_of_batch_norm_as_they_were(tmp_path):
    set_seed(0)
    blocks = {"d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32}
    encoder = AutoModel.from_config(
        PatchTSTConfig(num_input_channels=1, context_length=32, patch_length=4, patch_stride=4, **blocks)
    )
    config = Data2VecGenericConfig(target_source="block", average_top_k_layers=1)
    model, seen = Data2VecGenericForPreTraining(config, encoder), Snapshots()
    samples = [
        {"past_values": torch.randn(32, 1), "mask": torch.arange(8)[None] % 2 == 0, "sample_index": i}
        for i in range(6)
    ]
    samples[2]["past_values"][5] = math.nan
    collate = torch.utils.data.default_collate
    new_trainer(tmp_path, samples, model, [seen], collate).train()
    statistics = "encoder.encoder.layers.0.norm_sublayer1.batchnorm.running_mean"
    assert not torch.equal(seen.states[2][statistics], seen.states[1][statistics])
    assert_equal(seen.states[1], seen.states[0])


# --- what is said


@pytest.mark.parametrize("value", BAD)
def test_bad_input__names_its_samples_alone(value, tmp_path, caplog):
    samples = [image(0), image(1), image(2), spoiled(3, value), image(4), image(5)]
    trainer = new_trainer(tmp_path, samples)
    trainer.train()
    (warning,) = [text for text in caplog.messages if "is skipped" in text]
    assert warning.startswith("Optimizer step 2 is skipped: NaN or infinity in the input of sample_index 103. 1 in a")
    assert "max_bad_steps=10" in warning


@pytest.mark.parametrize(("spoil", "place"), [(spoil_loss, "the loss"), (spoil_gradients, "the gradients")])
def test_bad_loss_or_gradients__name_all_samples_they_may_come_from(spoil, place, tmp_path, caplog):
    model = new_model()
    spoil(model, {3})
    samples = [image(i) for i in range(8)]
    new_trainer(tmp_path, samples, model, gradient_accumulation_steps=2, dataloader_num_workers=1).train()
    (warning,) = [text for text in caplog.messages if "is skipped" in text]
    named = "106, 107" if spoil is spoil_loss else "104, 105, 106, 107"
    assert f"Optimizer step 2 is skipped: NaN or infinity in {place} of sample_index {named}." in warning


def test_bad_input__names_the_file_where_the_data_set_knows_it(tmp_path, caplog):
    rows = [{"image": {"bytes": None, "path": f"cats/{i}.png"}, "sample_index": 3 * i} for i in range(6)]
    features = datasets.Features({"image": datasets.Image(decode=False), "sample_index": datasets.Value("int64")})
    dataset = datasets.Dataset.from_list(rows, features=features)

    def read(batch: dict[str, Any]) -> dict[str, Any]:
        paths = [value["path"] for value in batch["image"]]
        read = [spoiled(0) if path == "cats/4.png" else image(0) for path in paths]
        return batch | {name: [sample[name] for sample in read] for name in ("pixel_values", "mask")}

    new_trainer(tmp_path, dataset.with_transform(read)).train()
    assert "NaN or infinity in the input of sample_index 12 (cats/4.png)." in caplog.text


def test_log__counts_bad_steps_and_averages_over_the_others(tmp_path):
    samples = [image(i) for i in range(12)]
    good = new_trainer(tmp_path, samples[:2] + samples[6:], logging_steps=2)
    whole = good.train()
    samples[2], samples[5] = spoiled(2), spoiled(5)  # steps 2 and 3 of 6
    trainer = new_trainer(tmp_path, samples, logging_steps=3)
    result = trainer.train()
    assert logged(trainer, "bad_steps") == [1, 2, 2, 2]  # at each bad step and with each log
    losses, expected = logged(trainer, "loss"), logged(good, "loss")
    assert losses[0] * 1 + losses[1] * 3 == pytest.approx(2 * sum(expected), rel=1e-5)
    assert all(map(math.isfinite, logged(trainer, "target_std") + logged(trainer, "prediction_std")))
    assert result.training_loss == pytest.approx(whole.training_loss, rel=1e-5)
    assert trainer.state.global_step == 6


# --- the run stops


def test_max_bad_steps__in_a_row_stop_the_run_and_name_the_last_checkpoint(tmp_path):
    samples = [image(i) for i in range(6)] + [spoiled(i) for i in range(6, 14)]
    trainer = new_trainer(tmp_path, samples, max_bad_steps=3, save_strategy="steps", save_steps=2)
    with pytest.raises(
        FloatingPointError, match="3 optimizer steps in a row met NaN or infinity, up to step 6"
    ) as error:
        trainer.train()
    assert "as step 3 left them" in str(error.value)
    assert f"The last good checkpoint is {tmp_path / 'checkpoint-4'}" in str(error.value)
    assert not (tmp_path / "checkpoint-6").exists()
    assert logged(trainer, "bad_steps")[-1] == 3


def test_max_bad_steps__counts_those_in_a_row_only(tmp_path):
    samples = [spoiled(i) if i // 2 % 3 else image(i) for i in range(18)]  # one good, two bad, ...
    trainer = new_trainer(tmp_path, samples, max_bad_steps=3)
    trainer.train()
    assert logged(trainer, "bad_steps")[-1] == 6
    assert trainer.teacher_updates == 3


def test_max_bad_steps__without_a_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="No checkpoint has been saved yet"):
        new_trainer(tmp_path, [spoiled(0), spoiled(1)], max_bad_steps=1).train()


def test_max_bad_steps__must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="max_bad_steps=0 must be at least 1"):
        Data2VecTrainingArguments(output_dir=str(tmp_path), max_bad_steps=0)


@pytest.mark.parametrize(
    ("save_steps", "logging_steps", "counts"), [(3, 2, [1, 1, 1, 2]), (2, 3, [1, 1, 2])], ids=["later", "right_behind"]
)
def test_resume__goes_on_counting(save_steps, logging_steps, counts, tmp_path):
    samples = [image(0), image(1), spoiled(2), *(image(i) for i in range(3, 8)), spoiled(8), image(9)]
    flags = {"save_strategy": "steps", "save_steps": save_steps, "logging_steps": logging_steps}
    flags |= {"optim": "adamw_torch_fused", "ema_end_decay": 0.9}
    whole = new_trainer(tmp_path, samples, **flags)
    result = whole.train()
    resumed = new_trainer(tmp_path / "again", samples, **flags)
    resumed_result = resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{save_steps}"))
    assert resumed_result.training_loss == result.training_loss
    assert logged(resumed, "loss") == logged(whole, "loss")
    assert logged(resumed, "bad_steps") == logged(whole, "bad_steps") == counts
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("save_steps", [1, 100])
def test_weights_that_are_not_finite__are_found_at_a_save_or_a_bad_step(save_steps, tmp_path):
    model = new_model()
    for weight in model.predictor.parameters():
        weight.register_hook(lambda grad: grad.sign() * 1e3)  # finite, and so is the rate, but not their product
    flags = {"optim": "sgd", "learning_rate": 1e37, "max_grad_norm": 0.0, "logging_steps": 100}
    flags |= {"save_strategy": "steps", "save_steps": save_steps}
    trainer = new_trainer(tmp_path, [image(i) for i in range(8)], model, **flags)
    with pytest.raises(
        FloatingPointError, match=r"not finite \(.*\) after optimizer step 1, and were after step 0.*learning_rate"
    ):
        trainer.train()
    assert trainer.state.global_step == (1 if save_steps == 1 else 2)
    assert not list(tmp_path.glob("checkpoint-*"))


# --- processes


def train_one_of_several(process: int, output_dir: Path) -> None:
    """Three steps of two processes. The second one's second batch holds NaN that neither loss nor gradients show."""
    model, seen = new_model(), Snapshots()
    for encoder in (model.encoder, model.teacher):
        encoder.embeddings.register_forward_pre_hook(lambda module, inputs: (inputs[0].nan_to_num(), *inputs[1:]))
    samples = [image(i) for i in range(12)]
    samples[7] = spoiled(7)
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("modeling_data2vec_generic.training.monitoring.bad_steps").addHandler(handler)
    trainer = new_trainer(output_dir, samples, model, [seen], optim="adamw_torch_fused")
    trainer.train()
    torch.save((seen.states, messages, trainer.teacher_updates), output_dir / f"{process}.pt")


def test_processes__skip_a_step_together(tmp_path):
    run_two(train_one_of_several, tmp_path, logs=tmp_path)
    (first, others_words, _), (second, own_words, updates) = (torch.load(tmp_path / f"{i}.pt") for i in range(2))
    assert_equal(first[1], first[0])
    assert_equal(dict(enumerate(first)), dict(enumerate(second)))
    assert not torch.equal(first[2]["predictor.weight"], first[1]["predictor.weight"])
    assert updates == 2
    assert [text.partition(". ")[0] for text in own_words] == [
        "Optimizer step 2 is skipped: NaN or infinity in the input of sample_index 107"
    ]
    assert [text.partition(". ")[0] for text in others_words] == [
        "Optimizer step 2 is skipped: NaN or infinity in a batch of another process"
    ]


# --- evaluation


def test_evaluation__of_a_bad_sample_says_so_and_the_run_goes_on(tmp_path, caplog):
    flags = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    flags |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    trainer = new_trainer(tmp_path, [image(i) for i in range(4)], evaluation=[image(4), spoiled(5)], **flags)
    trainer.train()
    assert trainer.state.global_step == 2
    assert all(map(math.isnan, logged(trainer, "eval_loss")))
    assert "eval_loss is NaN or infinite at step 2" in caplog.text
    assert logged(trainer, "bad_steps") == [0, 0]


# --- loss scaling


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Data2VecTrainer, float], None]:
    """Make a trainer train as with --fp16, which accelerate does on accelerators only: autocast and a real scaler."""

    def scale_losses(trainer: Data2VecTrainer, init_scale: float) -> None:
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
        trainer.accelerator.native_amp = True
        monkeypatch.setattr(trainer.accelerator.state, "_mixed_precision", "fp16")

    return scale_losses


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused", "sgd"])
def test_overflow_of_loss_scaling__moves_nothing_and_is_not_bad(optimizer, scaled, tmp_path):
    seen = Snapshots()
    flags = {"ema_decay": 0.5, "ema_end_decay": 0.9, "ema_anneal_steps": 8, "max_bad_steps": 1, "optim": optimizer}
    trainer = new_trainer(tmp_path, [image(i) for i in range(24)], None, [seen], **flags)
    start = copy.deepcopy(trainer.model.state_dict())
    scaled(trainer, 2.0**17)  # halved at each overflow until half precision can hold the gradients
    trainer.train()
    states = [start, *seen.states]
    moved = [not torch.equal(a["predictor.weight"], b["predictor.weight"]) for a, b in itertools.pairwise(states)]
    skipped = moved.index(True)
    assert 2 <= skipped <= 8  # or the test shows nothing
    assert all(moved[skipped:])
    for state in states[1 : skipped + 1]:
        assert_equal(state, start)
    assert trainer.teacher_updates == 12 - skipped
    assert logged(trainer, "ema_decay")[: skipped + 1] == pytest.approx([0.55] * (skipped + 1))
    assert logged(trainer, "bad_steps") == [0] * 12


def test_nan_under_loss_scaling__is_bad(scaled, tmp_path):
    samples = [image(i) for i in range(8)]
    samples[4] = spoiled(4)
    seen = Snapshots()
    trainer = new_trainer(tmp_path, samples, None, [seen])
    scaled(trainer, 2.0**8)
    trainer.train()
    assert logged(trainer, "bad_steps") == [0, 0, 1, 1]
    assert_equal(seen.states[2], seen.states[1])
    assert not torch.equal(seen.states[3]["predictor.weight"], seen.states[2]["predictor.weight"])
    assert trainer.teacher_updates == 3


def test_overflow__that_no_loss_scaling_explains_is_bad(scaled, tmp_path):
    model = new_model()
    spoil_gradients(model, set(range(8)))
    trainer = new_trainer(tmp_path, [image(i) for i in range(16)], model, max_bad_steps=3)
    scaled(trainer, 8.0)  # three overflows, then the scale is 1
    with pytest.raises(FloatingPointError, match="3 optimizer steps in a row met NaN or infinity, up to step 6"):
        trainer.train()
