"""Weights are read from safetensors: reading a pickle can run code."""

import os

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")


def require_safetensors(folder: str | os.PathLike) -> None:
    """Raise ValueError, which says how to convert them, if a local folder holds its weights as pickles only."""
    pickles = [name for name in PICKLES if os.path.isfile(os.path.join(folder, name))]
    if pickles and not any(os.path.isfile(os.path.join(folder, name)) for name in SAFETENSORS):
        raise ValueError(
            f"{os.fspath(folder)!r} holds its weights as {pickles[0]}, a pickle, which is not read: one that was "
            "tampered with can run code. model.safetensors is expected. If you trust where it comes from, convert it "
            "once: AutoModel.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW_FOLDER)."
        )


__all__ = ["require_safetensors"]
