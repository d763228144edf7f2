"""The configurations of `accelerate launch`, read as accelerate reads them."""

import os
import subprocess
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


STAND_INS = {
    "srun": 'code=0; for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" || code=$?; done; exit $code',
    "scontrol": 'if [ "$1" = show ]; then echo node7; else echo "scontrol $*"; fi',
    "python": 'echo "$RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $*"; exit "$EXIT_CODE"',
}


@pytest.mark.parametrize(("code", "is_queued_again"), [(0, False), (1, False), (143, True)])
def test_slurm_script__starts_each_process_and_queues_stopped_runs_again(code, is_queued_again, tmp_path):
    for name, script in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
    }
    done = subprocess.run(
        [FOLDER / "slurm.sh", "recipe.json", "--train_dir", "two words"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "EXIT_CODE": str(code), **job},
        capture_output=True,
        text=True,
    )
    command = "node7:22345 run_pretraining.py recipe.json --train_dir two words --resume_from_checkpoint true"
    queued = ["scontrol requeue 12345"] * is_queued_again
    assert done.stdout.splitlines() == [f"0/2 0/2 {command}", f"1/2 1/2 {command}", *queued]
    assert done.returncode == code
