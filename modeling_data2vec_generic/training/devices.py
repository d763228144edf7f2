"""One process, one accelerator."""

from transformers import TrainingArguments


def refuse_several_devices(arguments: TrainingArguments) -> None:
    """Make sure that this process trains on one GPU at most.

    transformers' Trainer would wrap the model in `nn.DataParallel`, whose replicas share the hooks by which masks go
    in and targets come out, so that losses would be wrong without an error.

    Raises:
        ValueError: it sees several, and no launcher has started one process for each.
    """
    count = arguments.n_gpu
    if count > 1:
        raise ValueError(
            f"This process sees {count} GPUs, and one process can't train on several: nn.DataParallel, which Trainer "
            "would use, shares hooks between its replicas and gives wrong losses. Start one process for each GPU with "
            f"`torchrun --nproc_per_node {count} SCRIPT.py FLAGS` or `accelerate launch --num_processes {count} "
            "SCRIPT.py FLAGS`, in place of `python SCRIPT.py FLAGS`. To train on one GPU alone, set "
            "CUDA_VISIBLE_DEVICES=0."
        )
