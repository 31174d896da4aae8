#!/usr/bin/env bash
# SLURM job that trains on the GPUs of one or more machines, one process per
# GPU; also as a job array. Submit it in the folder of the clone:
#
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 --time=24:00:00 \
#     launch/pods/slurm.sh --config=FILE.py[:ARG] --workdir=W [FLAG...]
#
# The flags are those of launch.main. In an array, `%a` in a flag is the number
# of the task, as in --config.seed=%a --workdir=W/%a, and line N (from 0) of the
# file $ENTRIES holds more flags for task N. Other variables:
#
#   PYTHON=.venv/bin/python   interpreter, on every machine
#   MAX_IDLE=3                successive requeues without a newer checkpoint
#
# The exit codes are those of launch.main. A run that was stopped and saved (143)
# or killed (137), or in which a peer failed (6), is queued again, and the
# same command resumes it. See docs/pods.md.
#SBATCH --job-name=jaxmix
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

refuse() {
  echo "slurm.sh: $1" >&2
  exit 8
}

flags=("$@")
array=${SLURM_ARRAY_TASK_ID:-}
if [[ -n $array ]]; then
  if [[ -n ${ENTRIES:-} ]]; then
    mapfile -t entries <"$ENTRIES" || refuse "cannot read ENTRIES=$ENTRIES"
    [[ -n ${entries[array]:-} ]] || refuse "ENTRIES=$ENTRIES has no line $array"
    read -ra entry <<<"${entries[array]}"
    flags+=("${entry[@]}")
  fi
  flags=("${flags[@]//%a/$array}")
fi

workdir=
for flag in "${flags[@]}"; do
  [[ $flag != --workdir=?* ]] || workdir=${flag#*=}
done
[[ -n $workdir ]] || refuse 'give the folder of the run with --workdir=FOLDER'
tasks=${SLURM_NTASKS_PER_NODE:-1}
gpus=${SLURM_GPUS_ON_NODE:-}
# jax assigns the i-th GPU to the i-th process of a machine.
((tasks == ${gpus:-tasks})) ||
  refuse "--ntasks-per-node=$tasks must equal the $gpus GPUs on a node"

newest() { # prints the step of the newest checkpoint
  local path step=-1
  for path in "$workdir"/checkpoints/*; do
    path=${path##*/}
    [[ $path =~ ^[0-9]+$ ]] && ((path > step)) && step=$path
  done
  echo "$step"
}

before=$(newest)
# Every process sees all GPUs of its machine, as jax expects. If one fails, the
# others are not killed: they detect it and exit with a code of their own.
srun --kill-on-bad-exit=0 --wait=0 --label \
  ${gpus:+--gpu-bind=none} \
  ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  "${PYTHON:-.venv/bin/python}" -m launch.main "${flags[@]}"
code=$?

count=$workdir/idle_requeues
case $code in
  6 | 137 | 143) ;;
  *)
    rm -f "$count"
    exit "$code"
    ;;
esac
idle=0
if [[ $(newest) == "$before" ]]; then
  idle=$(($(cat "$count" 2>/dev/null || echo 0) + 1))
fi
if ((idle > ${MAX_IDLE:-3})); then
  rm -f "$count"
  echo "slurm.sh: not queued again: $((idle - 1)) requeues without progress" >&2
  exit "$code"
fi
mkdir -p "$workdir" && echo "$idle" >"$count"
# Not $SLURM_JOB_ID: for one of the tasks it is the id of the whole array.
scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${array:+_$array}"
exit "$code"
