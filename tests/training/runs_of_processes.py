"""Small runs that tests repeat with one process and with two."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, DistributedType
from datasets import Dataset
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
    DataCollatorForData2VecText,
    MaskSampler,
)
from modeling_data2vec_generic.data.quality.reading import Unreadable
from modeling_data2vec_generic.evaluation.probe import Probe, after_prefix, real_tokens
from modeling_data2vec_generic.masking.sampler import draw_grid_masks
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer
from modeling_data2vec_generic.training.monitoring.vital_signs import vital_signs
from modeling_data2vec_generic.training.teacher import EMATeacher

from ..tiny import sentences, tiny_encoder

VOCABULARY = 300
STEPS = 20
SHORT = 8  # steps of the runs that are slow
GLOBAL_BATCH = 8
STEPS_OF = {"images": STEPS, "images_2": STEPS, "text": STEPS, "tokens": 12}
CASES = tuple(STEPS_OF)
RESUMED = ("images", "tokens")
SHARDED = ("images_2", "text", "text_2")
DTYPES = ("float32", "bfloat16")


@dataclass
class ImageCollator:
    """Masks drawn as by our collators."""

    num_masks: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        indices = [example["sample_index"] for example in examples]
        masks = draw_grid_masks(MaskSampler("random", 0.6), (4, 4), self.num_masks, 0, self.epoch, indices)
        return {**self.plain(examples), "mask": torch.from_numpy(masks)}

    def plain(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.tensor([example["image"] for example in examples])}


def images(count: int) -> Dataset:
    values = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    values += torch.arange(count).view(-1, 1, 1, 1) % 3
    rows = range(count)
    return Dataset.from_dict({"image": values.tolist(), "sample_index": rows, "label": [i % 3 for i in rows]})


@dataclass
class Broken:
    """A transform of a data set, some of whose images cannot be decoded."""

    bad: set[int]

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        pairs = zip(batch["image"], batch["sample_index"], strict=True)
        return {**batch, "image": [Unreadable("broken") if row in self.bad else image for image, row in pairs]}


def lines(tokenizer: Any, count: int) -> Dataset:
    encoded = tokenizer(sentences(count), return_special_tokens_mask=True)
    rows = range(count)
    columns = {name: encoded[name] for name in ("input_ids", "special_tokens_mask")}
    return Dataset.from_dict({**columns, "sample_index": rows, "label": [i % 3 for i in rows]})


class SeenMasks:
    """A collator that keeps the masks it gives for each (epoch, sample), without padding."""

    def __init__(self, collator: Any):
        self.collator = collator
        self.masks: dict[tuple[int, int], list] = {}

    def set_epoch(self, epoch: int) -> None:
        self.collator.set_epoch(epoch)

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.collator(examples)
        for example, mask in zip(examples, batch["mask"], strict=True):
            length = len(example.get("input_ids", mask[0]))
            assert not mask[:, length:].any()
            self.masks[self.collator.epoch, example["sample_index"]] = mask[:, :length].tolist()
        return batch


class Weights(TrainerCallback):
    """Student and teacher after some steps."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step in (3, state.max_steps):
            self.after[state.global_step] = {name: value.clone() for name, value in model.state_dict().items()}


def new_trainer(case: str, output_dir: Path, processes: int, **flags: Any) -> Data2VecTrainer:
    """A run whose last batches do not divide by the processes; noise and dropout, which each process draws for
    itself, are off."""
    settings: dict[str, Any] = {}
    if case.endswith("_2"):
        settings = {"student_input": "visible", "predictor": "conv", "decoder_dim": 16, "decoder_groups": 4}
        settings |= {"mask_noise_std": 0.0, "num_masks": 3, "loss_beta": 0.0}
        settings |= {"cls_loss_weight": 2.56} if case == "images_2" else {}
    # Text is grouped by length; "tokens" are batches of varying size.
    grouping: dict[str, Any] = {} if case.startswith("images") else {"train_sampling_strategy": "group_by_length"}
    accumulation = 2 if case == "text" else 1
    if case == "tokens":
        accumulation = 2 // processes
        # 8 batches, which are 4 steps: the run is resumed within the second epoch.
        grouping = {"max_tokens_per_batch": 88, "max_steps": 12, "eval_steps": 6, "save_steps": 6}
    set_seed(0)
    collator: Any
    if case.startswith("images"):
        # 17 = 2 * 8 + 1: the second process has nothing of its own in the last batch.
        rows, evaluation, encoder = images(17), images(21), tiny_encoder("vit")
        collator, content = ImageCollator(settings.get("num_masks", 1)), after_prefix(1)
        if case == "images":
            rows, evaluation = rows.with_transform(Broken({4, 16})), evaluation.with_transform(Broken({20}))
    else:
        tokenizer = train_tokenizer(sentences(40), VOCABULARY)
        rows, evaluation, encoder = (
            lines(tokenizer, 30),
            lines(tokenizer, 11),
            tiny_encoder("bert", vocab_size=VOCABULARY),
        )
        tokens = {"student_tokens": not settings, "num_masks": settings.get("num_masks", 1)}
        collator, content = DataCollatorForData2VecText(tokenizer, MaskSampler("random", 0.4), **tokens), real_tokens
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**settings), encoder)
    batch = GLOBAL_BATCH // processes // accumulation
    defaults = {"max_steps": STEPS, "per_device_train_batch_size": batch, "per_device_eval_batch_size": 8 // processes}
    defaults |= {"gradient_accumulation_steps": accumulation, "learning_rate": 0.1, "optim": "sgd"}
    defaults |= {"lr_scheduler_type": "constant", "ema_decay": 0.9, "ema_end_decay": 0.99}
    defaults |= {
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_strategy": "steps",
        "save_steps": 10,
    }
    defaults |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True}
    return Data2VecTrainer(
        model=model,
        args=Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | grouping | flags),
        train_dataset=rows,
        eval_dataset=evaluation,
        data_collator=SeenMasks(collator),
        eval_data_collator=dataclasses.replace(collator),
        feature_metrics=Probe(rows, evaluation, collator.plain, content, batch_size=8),
        callbacks=[Weights()],
        max_bad_fraction=0.5,
    )


def outcome(trainer: Data2VecTrainer) -> dict[str, Any]:
    """What to compare."""
    weights = next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, Weights))
    masks = trainer.data_collator.masks  # type: ignore[union-attr]
    rows = {"read": dict(trainer.rows.read), "bad": dict(trainer.rows.bad)}
    return {"log": trainer.state.log_history, "weights": weights.after, "masks": masks, "rows": rows}


def stepped(case: str, dtype: torch.dtype, sharded: bool) -> dict[str, Any]:
    """Two steps on one batch, which all processes read alike: metrics before (of sharded models, each process gives a
    half of the batch), losses, gradients of the first step, weights and the teacher's accumulators after the last."""
    trainer = new_trainer(case, Path("unused"), 1)
    model = trainer.model.to(dtype).train()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    batch.pop("mask_positions", None)  # the batch is cut into halves
    batch = {name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}
    if sharded:
        for encoder in (model.encoder, model.teacher):
            for block in model.layout.stacks:
                fully_shard(encoder.get_submodule(block))
        fully_shard(model)
    metrics = {}
    if dtype == torch.float32:  # as at the beginning of a run, in this order
        halves = [{name: value[i : i + 2] for name, value in batch.items()} for i in (0, 2)]
        own = [halves[trainer.args.process_index]] if sharded else halves
        metrics = vital_signs(model, own) | trainer.feature_metrics(model.encoder)
    ema, losses, gradients = None, [], {}
    for _ in range(2):
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.item())
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                gradients.setdefault(name, whole(weight.grad).clone())
        with torch.no_grad():  # an optimizer may round shards of half precision otherwise than the whole
            for weight in model.encoder.parameters():
                weight.mul_(0.9)
        ema = ema or EMATeacher(model.teacher, model.encoder)
        ema.step(0.9)
        model.zero_grad()
    options = StateDictOptions(full_state_dict=True)
    weights = {name: value.clone() for name, value in get_model_state_dict(model, options=options).items()}
    # Resuming: what was saved of this teacher goes into another one.
    other = EMATeacher(model.teacher, model.encoder)
    other.load_state_dict(ema.state_dict())
    accumulators = {name: value.clone() for name, value in other.state_dict().items()}
    return {
        "metrics": metrics,
        "losses": losses,
        "gradients": gradients,
        "weights": weights,
        "accumulators": accumulators,
    }


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
# State dicts of optimizers without state can't be sharded.
ADAM = {"optim": "adamw_torch_fused", "learning_rate": 1e-3}
SHORT_RUN = ADAM | {"max_steps": SHORT, "eval_steps": SHORT // 2, "save_steps": SHORT // 2}


@contextmanager
def fsdp2_of_accelerate() -> Iterator[None]:
    """What `examples/accelerate/fsdp2.yaml` sets, with accelerate made to obey it without an accelerator."""
    init = AcceleratorState.__init__

    def init_with_fsdp(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin

    with (
        patch.dict(os.environ, FSDP2),
        patch.object(AcceleratorState, "__init__", init_with_fsdp),
        patch.object(Accelerator, "distributed_type", DistributedType.FSDP),
        patch.object(Accelerator, "is_fsdp2", True),
    ):
        yield


def main(rank: int, folder: Path) -> None:
    """What one of two processes does; it writes what came out to files that end with its rank."""
    for case in CASES:
        trainer = new_trainer(case, folder / case, processes=2)
        trainer.train()
        torch.save(outcome(trainer), folder / f"{case}_{rank}.pt")
    for case, dtype in itertools.product(SHARDED, DTYPES):
        found = stepped(case, getattr(torch, dtype), sharded=True)
        torch.save(found, folder / f"sharded_{case}_{dtype}_{rank}.pt")
    for case in RESUMED:
        resumed = new_trainer(case, folder / "resumed" / case, processes=2)
        resumed.train(resume_from_checkpoint=str(folder / case / f"checkpoint-{STEPS_OF[case] // 2}"))
        torch.save(outcome(resumed), folder / f"resumed_{case}_{rank}.pt")
    with fsdp2_of_accelerate():
        sharded = new_trainer("images_2", folder / "fsdp2", processes=2, **SHORT_RUN)
        sharded.train()
        sharded.save_model()
        sharded.save_encoder()
        resumed = new_trainer("images_2", folder / "fsdp2_resumed", processes=2, **SHORT_RUN)
        resumed.train(resume_from_checkpoint=str(folder / "fsdp2" / f"checkpoint-{SHORT // 2}"))
        resumed.save_model()
        logs = {"log": sharded.state.log_history, "resumed": resumed.state.log_history}
        torch.save(logs, folder / f"fsdp2_{rank}.pt")
