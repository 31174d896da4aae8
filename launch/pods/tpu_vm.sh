#!/usr/bin/env bash
# Trains on a slice of Cloud TPU VMs, through a queued resource:
#
#   export NAME=run1 ZONE=us-east5-b TYPE=v6e-32
#   launch/pods/tpu_vm.sh run --config=FILE.py[:ARG] --workdir=/mnt/shared/W ...
#   launch/pods/tpu_vm.sh delete
#
# `run` uses the slice of that name, or requests it and waits; it installs the
# committed files on every worker, and starts the same command on all. If the
# slice is preempted it is requested again, and the run resumes. Call it from a
# machine that stays on; Ctrl-C stops the run, which saves. The slice is billed
# until `delete`. The project is the default of gcloud. Variables:
#
#   NAME, ZONE, TYPE           of the slice; TYPE is the accelerator type
#   RUNTIME=v2-alpha-tpuv6e    software version, which must match TYPE
#   CREATE=                    more flags of `queued-resources create`: --spot
#   NFS=                       HOST:/SHARE to mount as /mnt/shared
#   EXTRAS=train               extras of pyproject.toml to install
#   MAX_RESTARTS=20            maximal number of restarts
#   POLL=30                    seconds between two polls of the state
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${NAME:?}" "${ZONE:?}"

tpus() { gcloud compute tpus "$@" --zone="$ZONE"; }

delete() { tpus queued-resources delete "$NAME" --force --quiet; }

on_all() { # runs a command on every worker; $2: a flag of ssh
  tpus tpu-vm ssh "$NAME" --worker=all --command="$1" ${2:+--ssh-flag="$2"}
}

state() {
  local reply
  if reply=$(tpus queued-resources describe "$NAME" \
    --format='value(state.state)' 2>&1); then
    echo "${reply##*$'\n'}"
  elif [[ $reply == *NOT_FOUND* ]]; then
    echo NONE
  else
    echo "$reply" >&2
  fi
}

restart() { # counts restarts, and exits after MAX_RESTARTS
  restarts=$((restarts + 1))
  echo "tpu_vm.sh: $1 ($restarts of ${MAX_RESTARTS:-20} restarts)" >&2
  ((restarts <= ${MAX_RESTARTS:-20})) || exit "$2"
  sleep "${POLL:-30}"
}

get_slice() {
  local current
  while current=$(state) && [[ $current != ACTIVE ]]; do
    case $current in
      NONE)
        read -ra create <<<"${CREATE:-}"
        tpus queued-resources create "$NAME" --node-id="$NAME" \
          --accelerator-type="${TYPE:?}" \
          --runtime-version="${RUNTIME:-v2-alpha-tpuv6e}" "${create[@]}"
        ;;
      SUSPENDED | FAILED)
        restart "the slice is $current" 1
        delete
        ;;
      *) sleep "${POLL:-30}" ;;
    esac
  done
}

install() {
  local code
  code=$(mktemp)
  git archive --format=tar.gz --output="$code" HEAD &&
    tpus tpu-vm scp "$code" "$NAME:jaxmix.tar.gz" --worker=all &&
    rm "$code" && on_all "set -e
    python=python3.11 shared=/mnt/shared needed=
    apt() { sudo apt-get -qq -o DPkg::Lock::Timeout=600 \"\$@\"; }
    \$python -c 'import ensurepip' || needed=\$python-venv
    [ -z '${NFS:-}' ] || needed=\"\$needed nfs-common\"
    [ -z \"\$needed\" ] || { apt update; apt install \$needed; }
    [ -z '${NFS:-}' ] || mountpoint -q \$shared ||
      { sudo mkdir -p \$shared; sudo mount -t nfs '${NFS:-}' \$shared; }
    mkdir -p jaxmix && tar -xzf jaxmix.tar.gz -C jaxmix && cd jaxmix
    [ -d .venv ] || \$python -m venv .venv
    .venv/bin/pip install -q -c constraints.txt '.[${EXTRAS:-train}]' 'jax[tpu]'"
}

run() {
  local code command restarts=0
  printf -v command ' %q' "$@"
  command="cd jaxmix && exec .venv/bin/python -m launch.main$command"
  while true; do
    get_slice
    code=0
    # With a terminal (-tt) workers notice a lost connection: they save and exit
    # with 129.
    { install && on_all "$command" -tt; } || code=$?
    case $code in
      0 | [345789] | 130) exit "$code" ;;
      6 | 129 | 137 | 143 | 255) ;;
      *) [[ $(state) != ACTIVE ]] || exit "$code" ;; # else the slice is gone
    esac
    restart "ended with $code" "$code"
  done
}

case ${1:-} in
  run) run "${@:2}" ;;
  delete) delete ;;
  *)
    echo 'tpu_vm.sh: run FLAG..., or delete' >&2
    exit 8
    ;;
esac
