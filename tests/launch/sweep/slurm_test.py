"""Jobs of submitit with fakes of the programs of SLURM.

`sbatch` stores the script, `srun` runs its command on this machine, and
`scontrol` stores its arguments.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from launch.sweep import slurm
from launch.sweep.slurm import Slurm, parse_slurm, submit
from launch.workdir.metrics import final_metrics
from tests.faults import trainer
from tests.launch.sweep.entries_test import run_sweep

# ml_collections imports config files that way.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')

PROGRAMS = {
  'sbatch': 'cp "$1" "$FAKE/script" && echo "Submitted batch job 77"',
  # srun --unbuffered --output FILE COMMAND
  'srun': 'shift 3; exec "$@"',
  'scontrol': 'echo "$@" >> "$FAKE/requeued"',
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  pytest.importorskip('submitit')
  folder = tmp_path / 'bin'
  folder.mkdir()
  for name, body in PROGRAMS.items():
    (folder / name).write_text(f'#!/bin/sh\n{body}\n')
    (folder / name).chmod(0o755)
  monkeypatch.setenv('FAKE', str(folder))
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
  return folder


def start(cluster, task):
  """Starts a task of an array as SLURM does."""
  about = {'JOB_ID': '78', 'ARRAY_JOB_ID': '77', 'ARRAY_TASK_ID': str(task)}
  about |= {'PROCID': '0', 'NTASKS': '1', 'NODEID': '0', 'LOCALID': '0'}
  env = os.environ | {f'SLURM_{name}': value for name, value in about.items()}
  script = (cluster / 'script').read_text().splitlines()
  env['SUBMITIT_EXECUTOR'] = 'slurm'
  # Without a shell in between, which would receive the signals too.
  command = next(x for x in script if x.startswith('srun')).split()
  assert 'submitit.core._submit' in command
  return subprocess.Popen(
    ['srun', *command[1:]],
    env=env,
    cwd=trainer.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def flags_of(cluster):
  lines = (cluster / 'script').read_text().splitlines()
  flags = [x.removeprefix('#SBATCH --') for x in lines if '#SBATCH' in x]
  return dict(flag.split('=', 1) for flag in flags)


@pytest.mark.slow
def test_unfinished_entries_are_submitted_and_trained(
  cluster, tmp_path, monkeypatch, capsys
):
  options = '--slurm=timeout_min=60,partition=p,gpus=0,concurrency=2'
  run_sweep(monkeypatch, tmp_path / 'w', options, '--entries=seed=*')
  out = capsys.readouterr().out
  assert '2 of 2 ' in out and ': job 77_1, ' in out
  flags = flags_of(cluster)
  assert flags['array'] == '0-1%2' and flags['partition'] == 'p'
  assert flags['time'] == '60' and 'gpus-per-node' not in flags
  job = start(cluster, 1)
  out, _ = job.communicate(timeout=200)
  assert job.returncode == 0, out
  assert final_metrics(tmp_path / 'w' / 'seed=1,optimizer.lr=0.3')
  run_sweep(monkeypatch, tmp_path / 'w', options, '--entries=seed=*')
  out = capsys.readouterr().out
  assert 'seed=0,optimizer.lr=0.3: job 77, ' in out
  assert '1 of 2 ' in out and 'array' not in flags_of(cluster)


# A trainer that runs until it is stopped, and then resumes.
SCRIPT = """
import pathlib, signal, sys, time
saved = pathlib.Path('saved')
def stop(number, frame):
  saved.write_text('state')
  sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
pathlib.Path('started').touch()
if not saved.exists():
  time.sleep(300)
"""


def test_a_preempted_job_is_saved_and_queued_again(
  cluster, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  commands = {
    'a': [sys.executable, '-c', SCRIPT],
    'b': [sys.executable, '-c', 'raise SystemExit(5)'],
  }
  folder = tmp_path / 'slurm'
  assert submit(commands, Slurm(60, gpus=2), folder) == ['77_0', '77_1']
  assert flags_of(cluster)['gpus-per-node'] == '2'
  job = start(cluster, 0)
  deadline = time.monotonic() + 60
  while not (tmp_path / 'started').exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  # All processes of the job get the signal, the trainer too.
  for pid in (job.pid, *children(job.pid)):
    os.kill(pid, signal.SIGUSR2)
  out, _ = job.communicate(timeout=60)
  assert (tmp_path / 'saved').read_text() == 'state', out
  assert (cluster / 'requeued').read_text() == 'requeue 77_0\n'
  again = start(cluster, 0)
  failing = start(cluster, 1)
  out, _ = again.communicate(timeout=60)
  assert again.returncode == 0, out
  out, _ = failing.communicate(timeout=60)
  assert failing.returncode != 0 and 'exit code 5' in out


def children(pid):
  path = f'/proc/{pid}/task/{pid}/children'
  with open(path) as file:
    return [int(child) for child in file.read().split()]


@pytest.mark.parametrize(
  'text, name',
  [
    ('partition=x', 'timeout_min'),
    ('timeout_min=0', "'timeout_min=0'"),
    ('timeout_min=1,gpus=two', "'gpus=two'"),
    ('timeout_min=1,partition=', "'partition='"),
    ('timeout_min=1,timeout_min=1', "'timeout_min=1'"),
    ('time=1', "'time=1'.*timeout_min=..., partition=..., gpus="),
  ],
)
def test_invalid_options_are_named(text, name):
  with pytest.raises(ValueError, match=name):
    parse_slurm(text.split(','))


def test_without_slurm_the_missing_program_is_named(monkeypatch):
  pytest.importorskip('submitit')
  monkeypatch.setenv('PATH', '')
  with pytest.raises(ValueError, match='sbatch'):
    slurm.check_cluster()


def test_without_submitit_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'submitit', None)
  with pytest.raises(ModuleNotFoundError, match=r'pip install -e .\.\[slurm\]'):
    slurm.check_cluster()


def test_the_message_of_sbatch_is_shown(cluster, tmp_path):
  (cluster / 'sbatch').write_text('#!/bin/sh\necho no such >&2\nexit 1\n')
  with pytest.raises(ValueError, match='no such'):
    submit({'a': ['true'], 'b': ['true']}, Slurm(1), tmp_path / 'slurm')
