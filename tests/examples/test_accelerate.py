"""The configurations of `accelerate launch`, read as accelerate reads them."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

pytestmark = pytest.mark.fast

FOLDER = Path(__file__).parents[2] / "examples" / "accelerate"
EXPECTED = {
    "ddp": ("MULTI_GPU", {"multi_gpu": True}),
    "fsdp2": (
        "FSDP",
        {
            "use_fsdp": True,
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_reshard_after_forward": True,
            "fsdp_cpu_ram_efficient_loading": False,
        },
    ),
    "deepspeed_zero2": (
        "DEEPSPEED",
        {
            "use_deepspeed": True,
            "zero_stage": 2,
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "offload_optimizer_device": "none",
        },
    ),
}


def test_configurations__are_those_that_are_tested():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_configuration__is_what_accelerate_launch_takes_from_it(name):
    path = str(FOLDER / f"{name}.yaml")
    kind, flags = EXPECTED[name]
    assert load_config_from_file(path).distributed_type == kind
    launch = launch_command_parser().parse_args(["--config_file", path, "--num_processes", "2", "run_pretraining.py"])
    args, _, _ = _validate_launch_command(launch)
    assert {flag: getattr(args, flag) for flag in flags} == flags
    assert args.num_processes == 2
    assert args.mixed_precision == "no"
