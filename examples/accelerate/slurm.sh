#!/bin/bash
# Pre-training on the nodes of a SLURM cluster, one process per GPU (DDP). Run it from the root of the repository:
#     sbatch --nodes 2 --time 24:00:00 examples/accelerate/slurm.sh RECIPE FLAGS
# A run that the time limit stops is queued again and goes on from its checkpoint.
#SBATCH --job-name=data2vec
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
# Two minutes before the time limit, to the processes of srun: each finishes its step, a checkpoint is saved, and all exit with 143.
#SBATCH --signal=USR1@120

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MASTER_PORT=$(( 20000 + SLURM_JOB_ID % 10000 ))

# What torchrun would set; without it, the signal reaches the processes themselves, and their exit code reaches this script.
# shellcheck disable=SC2016
srun bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
    export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
    exec python run_pretraining.py "$@" --resume_from_checkpoint true
' process "$@"
code=$?

if [ "$code" = 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
