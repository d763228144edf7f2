"""Encoders that read another number of channels than images have."""

from types import SimpleNamespace

import pytest

from modeling_data2vec_generic.modalities.vision.modality import check_num_channels

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("channels", [2, 4])
def test_check_num_channels__that_no_image_has(channels):
    with pytest.raises(ValueError, match=rf"num_channels={channels} reads {channels} channels.*RGB \(3 channels\)"):
        check_num_channels(SimpleNamespace(model_type="vit", num_channels=channels))


@pytest.mark.parametrize("config", [{"num_channels": 1}, {"num_channels": 3}, {}])
def test_check_num_channels__of_grey_and_colour(config):
    check_num_channels(SimpleNamespace(model_type="vit", **config))
