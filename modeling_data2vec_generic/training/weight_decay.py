"""Which weights weight decay falls on."""

from torch import nn
from transformers import Trainer

from ..quirks_data2vec_generic import MASK_PARAMETERS

_MASK_EMBEDDINGS = (*MASK_PARAMETERS, "mask_embedding")


class MatrixDecayTrainer(Trainer):
    """transformers' Trainer, which decays neither biases nor norms, and here no other vector either: no weight of one
    axis, such as a layer scale (fairseq's data2vec 2.0 and BEiT do the same), and no mask embedding, whose leading
    axes of size 1 differ between encoders. CLS and other tokens and learned positions are decayed, as in fairseq."""

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that `weight_decay` applies to."""
        matrices = {name for name, weight in model.named_parameters(remove_duplicate=False) if weight.ndim > 1}
        return [
            name
            for name in super().get_decay_parameter_names(model)
            if name in matrices and name.rpartition(".")[2] not in _MASK_EMBEDDINGS
        ]
