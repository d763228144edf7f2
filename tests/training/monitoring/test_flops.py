"""total_flos beside what torch counts of the same step."""

from typing import Any

import pytest
import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode
from transformers import set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)
from modeling_data2vec_generic.training.monitoring.flops import StepFlops

from ...tiny import tiny_encoder

WIDE = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
INPUTS = {"vit": ((3, 16, 16), 16), "bert": ((24,), 24), "wav2vec2": ((6000,), 18)}
# torch counts the backward pass of a grouped convolution as if it had one group.
UNGROUPED = {"wav2vec2": {"num_conv_pos_embedding_groups": 1}}
V1 = {"predictor": "linear"}
V2 = {"student_input": "visible", "predictor": "conv", "decoder_dim": 64, "decoder_layers": 2, "decoder_groups": 1}
V2 |= {"num_masks": 3, "teacher_embeddings": "copy"}


def rows(model: Any, shape: tuple[int, ...], length: int, masks: int) -> list[dict[str, torch.Tensor]]:
    name = model.main_input_name
    found = []
    for i in range(4):
        generator = torch.Generator().manual_seed(i)
        values = torch.randn(shape, generator=generator)
        mask = torch.stack([torch.randperm(length, generator=generator) < length // 2 for _ in range(masks)])
        row = {name: values, "mask": mask}
        if name == "input_ids":
            ids = torch.randint(5, 90, shape, generator=generator)
            row |= {name: ids, "student_input_ids": torch.where(mask, 3, ids)}
        found.append(row)
    return found


@pytest.mark.parametrize("settings", [V1, V2], ids=["data2vec", "data2vec2"])
@pytest.mark.parametrize("model_type", INPUTS)
def test_total_flos__are_near_what_torch_counts(model_type, settings, tmp_path):
    set_seed(0)
    model = Data2VecGenericForPreTraining(
        Data2VecGenericConfig(**settings), tiny_encoder(model_type, **WIDE, **UNGROUPED.get(model_type, {}))
    )
    data = rows(model, *INPUTS[model_type], settings.get("num_masks", 1))
    counts: list[int] = []

    class Counted(Data2VecTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                loss = super().training_step(*args, **kwargs)
            counts.append(counter.get_total_flops())
            return loss

    flags = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no", "logging_steps": 1}
    flags |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True}
    trainer = Counted(
        model=model,
        args=Data2VecTrainingArguments(output_dir=str(tmp_path), **flags),
        train_dataset=data,
        data_collator=default_collate,
    )
    trainer.train()
    assert trainer.state.total_flos == pytest.approx(sum(counts), rel=0.01)


def test_content__that_student_and_teacher_share_is_counted_once():
    set_seed(0)
    config = Data2VecGenericConfig(teacher_embeddings="copy")
    model = Data2VecGenericForPreTraining(config, tiny_encoder("wav2vec2")).train()
    batch = default_collate(rows(model, *INPUTS["wav2vec2"], 1))
    counts = []
    for shared in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "shares_content", lambda inputs, shared=shared: shared)
            flops = StepFlops(model)
            with flops.watched(batch), FlopCounterMode(display=False) as counter:
                output = model(**batch)
            counts.append((flops.count(batch, len(output.predictions)), counter.get_total_flops()))
    (ours, by_torch), (ours_apart, by_torch_apart) = counts
    assert ours_apart - ours == by_torch_apart - by_torch > 0
