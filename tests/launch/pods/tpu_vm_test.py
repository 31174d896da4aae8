"""`tpu_vm.sh` with a `gcloud` that keeps what it is asked for."""

import os
import shlex
import subprocess
import tarfile

import pytest

from tests.faults import trainer
from tests.launch.pods.files import AGAIN, FLAGS, NEVER, PODS

# Says the state of the slice from a list, one line a look, the last one for
# ever; ends the n-th training with the n-th code.
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
    said = (tmp_path / 'gcloud').read_text().split('\0\n\0')[:-1]
    return done, [command.split('\0') for command in said]

  return call


def verbs(said):
  """What was asked of gcloud, without looks at the state."""
  words = ('create', 'delete', 'scp', 'launch.main', 'pip install')
  texts = [' '.join(command) for command in said]
  found = [next((w for w in words if w in text), None) for text in texts]
  return [w for w in found if w]


START = ['scp', 'pip install', 'launch.main']


def test_a_slice_is_asked_for_and_every_worker_runs_the_same(tpu, tmp_path):
  done, said = tpu(
    'run',
    *FLAGS,
    states='NONE WAITING_FOR_RESOURCES DOWN PROVISIONING ACTIVE',
    CREATE='--spot --network=n',
    NFS='10.0.0.2:/runs',
  )
  assert done.code == 0, done.err
  assert verbs(said) == ['create', *START]
  (create,) = [x for x in said if 'create' in x]
  assert create[:5] == ['compute', 'tpus', 'queued-resources', 'create', 'n']
  assert {
    '--node-id=n',
    '--zone=z',
    '--accelerator-type=v6e-32',
    '--runtime-version=v2-alpha-tpuv6e',
    '--spot',
    '--network=n',
  } <= set(create)
  for command in said[-3:]:
    assert '--worker=all' in command, 'a worker without it waits for ever'
  (command,) = [
    x.removeprefix('--command=') for x in said[-1] if x.startswith('--command=')
  ]
  assert shlex.split(command)[-3:] == list(FLAGS), 'a flag was taken apart'
  assert '--ssh-flag=-tt' in said[-1]
  with tarfile.open(tmp_path / 'code.tar.gz') as code:
    assert {'launch/main.py', 'constraints.txt'} <= set(code.getnames())


def test_what_is_typed_on_the_workers_is_shell(tpu, tmp_path):
  _, said = tpu('run', *FLAGS, NFS='10.0.0.2:/runs', EXTRAS='retrieval')
  commands = [
    x.removeprefix('--command=')
    for command in said
    for x in command
    if x.startswith('--command=')
  ]
  assert len(commands) == 2 and "'.[retrieval]'" in commands[0]
  for command in commands:
    done = subprocess.run(['bash', '-n'], input=command, text=True)
    assert done.returncode == 0, command


def test_a_slice_that_is_taken_away_is_asked_for_again(tpu):
  done, said = tpu(
    'run',
    *FLAGS,
    states='ACTIVE SUSPENDING SUSPENDED NONE PROVISIONING ACTIVE',
    codes='255 0',
  )
  assert done.code == 0, done.err
  assert verbs(said) == [*START, 'delete', 'create', *START]


def test_a_slice_lost_while_it_is_installed_is_too(tpu):
  done, said = tpu(
    'run',
    *FLAGS,
    states='ACTIVE SUSPENDED SUSPENDED NONE ACTIVE',
    installs='1 0',
  )
  assert done.code == 0, done.err
  assert verbs(said) == [*START[:2], 'delete', 'create', *START]
  done, said = tpu('run', *FLAGS, installs='1')
  assert done.code == 1 and verbs(said) == START[:2], (
    'what cannot be installed on a slice that is there cannot be run'
  )


@pytest.mark.parametrize('code', [*AGAIN, 129])
def test_a_run_that_can_go_on_is_begun_again(tpu, code):
  done, said = tpu('run', *FLAGS, codes=f'{code} 0')
  assert done.code == 0 and verbs(said) == 2 * START


@pytest.mark.parametrize('code', NEVER)
def test_a_run_that_cannot_ends_with_its_code(tpu, code):
  # Even if the slice is taken away at that very moment.
  states = 'ACTIVE' if code == 1 else 'ACTIVE SUSPENDED'
  done, said = tpu('run', *FLAGS, codes=f'{code} 0', states=states)
  assert done.code == code and verbs(said) == START


def test_restarts_come_to_an_end(tpu):
  done, said = tpu('run', *FLAGS, codes='6', MAX_RESTARTS='2')
  assert done.code == 6 and verbs(said) == 3 * START
  done, said = tpu('run', *FLAGS, states='FAILED', MAX_RESTARTS='2')
  assert done.code == 1 and verbs(said) == 2 * ['delete']


def test_a_slice_is_deleted_when_told_to(tpu):
  done, said = tpu('delete')
  assert done.code == 0
  assert verbs(said) == ['delete'] and {'--force', '--zone=z'} <= set(said[0])
  done, said = tpu('erase')
  assert done.code == 8 and 'run FLAG..., or delete' in done.err and not said
