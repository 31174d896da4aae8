"""`tpu_vm.sh` with a fake `gcloud` that stores its arguments."""

import os
import shlex
import subprocess
import tarfile

import pytest

from tests.faults import trainer
from tests.launch.pods.files import FLAGS, NO_RESTART, PODS, RESTART

# Prints the states of the slice from a file, one per call and the last one
# repeatedly; ends the n-th training with the n-th code.
GCLOUD = r"""
next() { head -n1 "$FAKE/$1"; sed -i '1{$!d}' "$FAKE/$1"; }
printf '%s\0' "$@" $'\n' >> "$FAKE/gcloud"
case "$*" in
  *' describe '*)
    found=$(next states)
    [[ $found != NONE ]] || { echo 'ERROR: NOT_FOUND: no such' >&2; exit 1; }
    [[ $found != DOWN ]] || { echo 'ERROR: no network' >&2; exit 1; }
    echo "$found"
    ;;
  *' scp '*) cp "$5" "$FAKE/code.tar.gz" ;;
  *launch.main*) exit "$(next codes)" ;;
  *ssh*) exit "$(next installs)" ;;
esac
"""


@pytest.fixture
def tpu(cluster, tmp_path, monkeypatch):
  cluster('gcloud', GCLOUD)
  about = {'NAME': 'n', 'ZONE': 'z', 'TYPE': 'v6e-32', 'POLL': '0'}
  for name, value in about.items():
    monkeypatch.setenv(name, value)

  def call(*arguments, states='ACTIVE', codes='0', installs='0', **env):
    for name, words in (
      ('states', states),
      ('codes', codes),
      ('installs', installs),
    ):
      (tmp_path / name).write_text('\n'.join(str(words).split()) + '\n')
    (tmp_path / 'gcloud').write_text('')
    process = subprocess.Popen(
      [PODS / 'tpu_vm.sh', *arguments],
      env=os.environ | env,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    done = trainer.wait(process)
    calls = (tmp_path / 'gcloud').read_text().split('\0\n\0')[:-1]
    return done, [command.split('\0') for command in calls]

  return call


def actions_of(calls):
  """Returns the actions of the calls of gcloud, without polls of the state."""
  words = ('create', 'delete', 'scp', 'launch.main', 'pip install')
  texts = [' '.join(command) for command in calls]
  actions = [next((w for w in words if w in text), None) for text in texts]
  return [w for w in actions if w]


START = ['scp', 'pip install', 'launch.main']


def test_a_slice_is_requested_and_every_worker_runs_the_same_command(
  tpu, tmp_path
):
  done, calls = tpu(
    'run',
    *FLAGS,
    states='NONE WAITING_FOR_RESOURCES DOWN PROVISIONING ACTIVE',
    CREATE='--spot --network=n',
    NFS='10.0.0.2:/runs',
  )
  assert done.code == 0, done.err
  assert actions_of(calls) == ['create', *START]
  (create,) = [x for x in calls if 'create' in x]
  assert create[:5] == ['compute', 'tpus', 'queued-resources', 'create', 'n']
  assert {
    '--node-id=n',
    '--zone=z',
    '--accelerator-type=v6e-32',
    '--runtime-version=v2-alpha-tpuv6e',
    '--spot',
    '--network=n',
  } <= set(create)
  for command in calls[-3:]:
    assert '--worker=all' in command, 'the other workers would wait'
  (command,) = [
    x.removeprefix('--command=')
    for x in calls[-1]
    if x.startswith('--command=')
  ]
  assert shlex.split(command)[-3:] == list(FLAGS), 'a flag was split'
  assert '--ssh-flag=-tt' in calls[-1]
  with tarfile.open(tmp_path / 'code.tar.gz') as code:
    assert {'launch/main.py', 'constraints.txt'} <= set(code.getnames())


def test_the_commands_on_the_workers_are_valid_shell(tpu, tmp_path):
  _, calls = tpu('run', *FLAGS, NFS='10.0.0.2:/runs', EXTRAS='retrieval')
  commands = [
    x.removeprefix('--command=')
    for command in calls
    for x in command
    if x.startswith('--command=')
  ]
  assert len(commands) == 2 and "'.[retrieval]'" in commands[0]
  for command in commands:
    done = subprocess.run(['bash', '-n'], input=command, text=True)
    assert done.returncode == 0, command


def test_a_preempted_slice_is_requested_again(tpu):
  done, calls = tpu(
    'run',
    *FLAGS,
    states='ACTIVE SUSPENDING SUSPENDED NONE PROVISIONING ACTIVE',
    codes='255 0',
  )
  assert done.code == 0, done.err
  assert actions_of(calls) == [*START, 'delete', 'create', *START]


def test_a_slice_that_is_lost_during_installation_is_requested_again(tpu):
  done, calls = tpu(
    'run',
    *FLAGS,
    states='ACTIVE SUSPENDED SUSPENDED NONE ACTIVE',
    installs='1 0',
  )
  assert done.code == 0, done.err
  assert actions_of(calls) == [*START[:2], 'delete', 'create', *START]
  done, calls = tpu('run', *FLAGS, installs='1')
  assert done.code == 1 and actions_of(calls) == START[:2], (
    'an installation that fails on an active slice ends the run'
  )


def test_a_run_that_can_resume_is_restarted(tpu):
  codes = [*RESTART, 129]
  done, calls = tpu('run', *FLAGS, codes=' '.join(map(str, [*codes, 0])))
  assert done.code == 0 and actions_of(calls) == (len(codes) + 1) * START


@pytest.mark.parametrize('code', NO_RESTART)
def test_any_other_run_ends_with_its_exit_code(tpu, code):
  # Also if the slice is preempted at the same time.
  states = 'ACTIVE' if code == 1 else 'ACTIVE SUSPENDED'
  done, calls = tpu('run', *FLAGS, codes=f'{code} 0', states=states)
  assert done.code == code and actions_of(calls) == START


def test_the_number_of_restarts_is_limited(tpu):
  done, calls = tpu('run', *FLAGS, codes='6', MAX_RESTARTS='2')
  assert done.code == 6 and actions_of(calls) == 3 * START
  done, calls = tpu('run', *FLAGS, states='FAILED', MAX_RESTARTS='2')
  assert done.code == 1 and actions_of(calls) == 2 * ['delete']


def test_delete_deletes_the_slice(tpu):
  done, calls = tpu('delete')
  assert done.code == 0
  assert actions_of(calls) == ['delete'] and {'--force', '--zone=z'} <= set(
    calls[0]
  )
  done, calls = tpu('erase')
  assert done.code == 8 and 'delete' in done.err and not calls
