import copy

import pytest
import torch
from accelerate import Accelerator
from transformers import ViTConfig

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, Data2VecTrainingArguments
from modeling_data2vec_generic.training.acceleration.compilation import compile_student

ENCODER = ViTConfig(
    hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=4
)
VISIBLE = {
    "student_input": "visible",
    "predictor": "conv",
    "decoder_dim": 32,
    "decoder_layers": 2,
    "decoder_groups": 4,
}


@pytest.mark.parametrize("settings", [{}, VISIBLE], ids=["mask_token", "visible"])
def test_compile_student__gives_the_same_losses_without_graph_breaks(settings, tmp_path):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    arguments = Data2VecTrainingArguments(
        output_dir=str(tmp_path), torch_compile=True, torch_compile_backend="aot_eager", use_cpu=True
    )
    config = Data2VecGenericConfig(encoder_config=ENCODER, mask_noise_std=0.0, **settings)
    plain = Data2VecGenericForPreTraining(config).train()
    compiled = copy.deepcopy(plain)
    compile_student(compiled, Accelerator(cpu=True), arguments)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in (plain, compiled)]
    for step in range(3):
        mask = torch.rand(2, 2, 16).argsort(-1) < 8 + step % 2  # another number of masked positions each time
        inputs = {"pixel_values": torch.randn(2, 3, 16, 16), "mask": mask}
        losses = []
        for model, optimizer in zip((plain, compiled), optimizers, strict=True):
            loss = model(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    assert set(compiled.state_dict()) == set(plain.state_dict())
