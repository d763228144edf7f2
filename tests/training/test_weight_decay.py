"""Weight decay falls on matrices, and on no vector."""

import pytest
import torch
from transformers import AutoModelForImageClassification, BeitConfig

from modeling_data2vec_generic import (
    Data2VecGenericConfig,
    Data2VecGenericForPreTraining,
    Data2VecTrainer,
    Data2VecTrainingArguments,
)
from modeling_data2vec_generic.finetuning.optimization.layer_rates import grouped_by_rate
from modeling_data2vec_generic.finetuning.trainer import FinetuningTrainer

from ..tiny_encoders import TINY

pytestmark = pytest.mark.fast


def decayed(trainer) -> set[str]:
    """Names of the trained weights in groups that decay."""
    optimizer = trainer.create_optimizer()
    groups = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    return {name for name, weight in trainer.model.named_parameters() if groups.get(id(weight), 0.0) == 0.05}


@pytest.mark.parametrize(
    ("name", "no_decay", "decay"),
    [
        ("beit", ["embeddings.mask_token", "layers.0.lambda_1", "layers.0.lambda_2"], ["embeddings.cls_token"]),
        ("dinov2", ["embeddings.mask_token", "encoder.layer.0.layer_scale1.lambda1"], ["embeddings.cls_token"]),
        ("wav2vec2", ["encoder.layers.0.layer_norm.weight"], []),
        ("vit", ["layers.0.layernorm_before.weight"], ["embeddings.position_embeddings"]),
    ],
)
def test_pretraining__decays_no_layer_scale_and_no_mask_embedding(name, no_decay, decay, tmp_path):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(average_top_k_layers=1), encoder=TINY[name].encoder())
    arguments = Data2VecTrainingArguments(
        output_dir=str(tmp_path), weight_decay=0.05, use_cpu=True, report_to="none", max_steps=1
    )
    found = decayed(Data2VecTrainer(model=model, args=arguments, data_collator=lambda batch: batch))
    parameters = dict(model.named_parameters())
    own = model.layout.mask_parameter
    for parameter in [*(f"encoder.{name}" for name in no_decay), f"encoder.{own}" if own else "mask_embedding"]:
        assert parameters[parameter].requires_grad
        assert parameter not in found
    assert not [name for name in found if parameters[name].ndim == 1]
    linear = {f"{n}.weight" for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {n for n in linear if parameters[n].requires_grad} <= found
    assert {f"encoder.{name}" for name in decay} <= found


def test_finetuning__decays_no_layer_scale_whatever_the_rates_of_its_layers():
    config = BeitConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8)
    config.patch_size, config.num_labels = 4, 1
    model = AutoModelForImageClassification.from_config(config)
    names = set(FinetuningTrainer.__new__(FinetuningTrainer).get_decay_parameter_names(model))
    assert names == {name for name in names if "lambda" not in name}
    assert "classifier.weight" in names  # of one row, for a number
    parameters = dict(model.named_parameters())
    groups = [
        {
            "params": [parameter for name, parameter in parameters.items() if (name in names) is decays],
            "weight_decay": rate,
        }
        for decays, rate in ((True, 0.05), (False, 0.0))
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    grouped_by_rate(optimizer, model, dict.fromkeys(list(parameters)[:5], 0.5))
    rates = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert {name for name, weight in parameters.items() if rates[id(weight)]} == names
