"""--bf16_full_eval and --fp16_full_eval: what they round, and that nothing of it is left after the evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate
from transformers import set_seed

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)

from ..tiny import tiny_encoder

LENGTHS = {"pixel_values": (3, 16, 16), "input_values": (3000,)}
POSITIONS = {"pixel_values": 16, "input_values": 8}


def new_trainer(output_dir: Path, model_type: str, **flags: Any) -> Data2VecTrainer:
    set_seed(0)
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), tiny_encoder(model_type))
    name = model.main_input_name
    generator = torch.Generator().manual_seed(0)
    rows = [
        {name: torch.randn(LENGTHS[name], generator=generator), "mask": torch.arange(POSITIONS[name])[None] < 3}
        for _ in range(8)
    ]
    defaults = {"max_steps": 2, "learning_rate": 0.01, "ema_decay": 0.5, "ema_end_decay": 0.5, "save_strategy": "no"}
    defaults |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1}
    return Data2VecTrainer(
        model=model,
        args=Data2VecTrainingArguments(output_dir=str(output_dir), **defaults | flags),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=default_collate,
    )


# wav2vec2 does not round its inputs by itself.
@pytest.mark.parametrize(("model_type", "flag"), [("vit", "bf16_full_eval"), ("wav2vec2", "fp16_full_eval")])
def test_full_eval__rounds_nothing_that_is_saved_or_trained(model_type, flag, tmp_path):
    plain = new_trainer(tmp_path / "plain", model_type)
    run = new_trainer(tmp_path / "run", model_type, **{flag: True})
    losses = []
    for trainer in (plain, run):
        trainer.evaluate()  # before training too
        trainer.train()
        losses.append(trainer.evaluate()["eval_loss"])
        trainer.save_model()
        trainer.save_encoder()
        trainer.train()  # goes on from there
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]  # or nothing was computed in half precision
    for file in ("model.safetensors", "encoder/model.safetensors"):
        saved, expected = (load_file(tmp_path / folder / file) for folder in ("run", "plain"))
        assert {name for name in saved if not torch.equal(saved[name], expected[name])} == set()
        assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.float32}
    weights, expected = run.model.state_dict(), plain.model.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []
