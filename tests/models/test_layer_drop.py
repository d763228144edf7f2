"""Every block of the student runs in every step, even if its encoder skips blocks in training."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.backbone_data2vec_generic import recorded_layers
from modeling_data2vec_generic.capabilities import small_config
from modeling_data2vec_generic.inputs_data2vec_generic import all_inputs
from modeling_data2vec_generic.measurements_data2vec_generic import made_up_sample
from modeling_data2vec_generic.modeling_data2vec_generic import encoder_of

pytestmark = pytest.mark.fast

# One type for each way in which encoders of transformers implement it.
TYPES = """
    autoformer bart flaubert informer lasr_encoder led m2m_100 nemotron_asr_streaming_encoder nllb-moe parakeet_encoder
    seamless_m4t_v2 speech_to_text time_series_transformer wav2vec2 wav2vec2-bert wav2vec2-conformer wavlm whisper
""".split()
TYPES = [name for name in TYPES if name in CONFIG_MAPPING]  # earlier versions of transformers lack some
# Fields for parts that are not the encoder, and for the input.
SMALL = {"max_source_positions": 20, "speech_encoder_layers": 1, "t2u_encoder_layers": 1, "t2u_decoder_layers": 1}


def rates_of(config_class: type) -> list[str]:
    """Fields of a configuration that say how often a block is skipped."""
    return [name for name in dir(config_class) if "layerdrop" in name]


@pytest.mark.parametrize("model_type", TYPES)
def test_student__runs_all_blocks_where_its_encoder_would_skip_every_one(model_type):
    """The dropouts of the configuration keep their values."""
    config = small_config(model_type)
    sizes = {name: size for name, size in SMALL.items() if hasattr(config, name)}
    for name, value in (sizes | dict.fromkeys(rates_of(type(config)), 1.0)).items():
        setattr(config, name, value)
    encoder = encoder_of(AutoModel.from_config(config))
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(average_top_k_layers=1), encoder=encoder).train()
    inputs = made_up_sample(model.encoder, model.layout)
    assert inputs is not None
    with recorded_layers(model.encoder, model.layout, "block") as layers, torch.no_grad():
        model.encoder(**all_inputs(model.layout, inputs, model.measurements.length))
    assert model.encoder.training
    assert len(layers) == len(model.layout.blocks)


def test_decoder__keeps_its_layer_drop():
    encoder = encoder_of(AutoModel.from_config(small_config("bart")))
    encoder.config.decoder_layerdrop = 0.3
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(average_top_k_layers=1), encoder=encoder)
    assert model.encoder.config.decoder_layerdrop == 0.3
