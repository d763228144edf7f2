"""What differs from the generic rules, one line per model type of transformers, with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Knowledge about one model type that can't be found by looking at the encoder.

    Args:
        gathered_modules: names of modules inside a block whose output, (1 or B, heads, L, L), spans the whole sequence
            and must be gathered along with it when the student reads visible positions only.
    """

    gathered_modules: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    # Each block makes its bias from the window, not from its input.
    "beit": Family(gathered_modules=("relative_position_bias",)),
    "data2vec-vision": Family(gathered_modules=("relative_position_bias",)),
}

# Modules that no output of the backbone that data2vec reads depends on: without a gradient they would stall DDP.
UNUSED_MODULES = ("pooler",)

# Parameters that an encoder keeps for masked positions; the first that is found is the student's mask embedding.
MASK_PARAMETERS = ("mask_token", "masked_spec_embed")


def family_of(model_type: str) -> Family:
    """The entry of a model type, or the generic one."""
    return FAMILIES.get(model_type, Family())


__all__ = ["MASK_PARAMETERS", "UNUSED_MODULES", "family_of"]
