"""`slurm.sh` with fakes of the programs of SLURM.

`sbatch` handles a script as SLURM does: it reads its directives, which options
override, sets the environment, and runs a copy. `srun` and `scontrol` store
their arguments. It was not run on a cluster.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.faults import processes, trainer
from tests.launch.pods.files import FLAGS, NO_RESTART, PODS, RESTART
from tests.launch.sweep.slurm_test import children


@pytest.fixture
def slurm(cluster):
  cluster('srun', 'printf "%s\\n" "$@" > "$FAKE/srun"; eval "${STEP:-}"')
  cluster('scontrol', 'echo "$@" >> "$FAKE/scontrol"')


def directives():
  head, _, _ = (PODS / 'slurm.sh').read_text().partition('\nset ')
  lines = [x for x in head.splitlines() if x.startswith('#SBATCH --')]
  options = [x.removeprefix('#SBATCH --') for x in lines]
  return {name: value for name, _, value in (x.partition('=') for x in options)}


def start_job(tmp_path, *flags, task=None, env=(), **options):
  """Starts a job as `sbatch OPTIONS slurm.sh FLAGS` does."""
  chosen = directives() | {k.replace('_', '-'): v for k, v in options.items()}
  about = {
    'JOB_ID': '77' if task is None else '80',
    'NNODES': chosen['nodes'],
    'NTASKS_PER_NODE': chosen['ntasks-per-node'],
    'GPUS_ON_NODE': chosen['gpus-per-node'],
  }
  if 'cpus-per-task' in chosen:
    about['CPUS_PER_TASK'] = chosen['cpus-per-task']
  if task is not None:
    about |= {'ARRAY_JOB_ID': '77', 'ARRAY_TASK_ID': str(task)}
  variables = {f'SLURM_{k}': str(v) for k, v in about.items()} | dict(env)
  shutil.copy(PODS / 'slurm.sh', tmp_path / 'slurm_script')
  return subprocess.Popen(
    ['bash', str(tmp_path / 'slurm_script'), *flags],
    env=os.environ | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def sbatch(tmp_path, *flags, **options):
  return trainer.wait(start_job(tmp_path, *flags, **options))


def calls_of(tmp_path, program):
  path = tmp_path / program
  return path.read_text().splitlines() if path.exists() else []


def test_the_job_requests_time_to_save_and_requeueing():
  found = directives()
  assert re.fullmatch(r'TERM@\d{3}', found['signal']), (
    'the processes need a signal before the time limit, not the shell (B:)'
  )
  assert found.keys() >= {'requeue', 'open-mode'}, found


def test_srun_gets_the_flags_and_every_process_sees_all_gpus(slurm, tmp_path):
  shape = {'nodes': 4, 'gpus_per_node': 8, 'ntasks_per_node': 8}
  done = sbatch(
    tmp_path, *FLAGS, **shape, cpus_per_task=12, env={'PYTHON': 'py'}
  )
  assert done.code == 0 and not calls_of(tmp_path, 'scontrol'), done.err
  call = calls_of(tmp_path, 'srun')
  first = call.index('py')
  assert call[first:] == ['py', '-m', 'launch.main', *FLAGS]
  assert {'--gpu-bind=none', '--cpus-per-task=12'} <= set(call[:first]), (
    'jax selects the i-th GPU: each task must see all of them'
  )


@pytest.mark.parametrize('code', RESTART)
def test_a_run_that_can_resume_is_queued_again(slurm, tmp_path, code):
  done = sbatch(tmp_path, *FLAGS, env={'STEP': f'exit {code}'})
  assert done.code == code, 'the exit code is lost'
  assert calls_of(tmp_path, 'scontrol') == ['requeue 77']


@pytest.mark.parametrize('code', [0, *NO_RESTART, 253])
def test_any_other_run_is_not_queued_again(slurm, tmp_path, code):
  done = sbatch(tmp_path, *FLAGS, env={'STEP': f'exit {code}'})
  assert done.code == code, 'the exit code is lost'
  assert not calls_of(tmp_path, 'scontrol'), f'{code} would occur again'


def test_requeues_without_progress_end(slurm, tmp_path):
  fails = {'STEP': 'exit 6', 'MAX_IDLE': '2'}
  works = fails | {'STEP': 'mkdir -p w/checkpoints/1{,0}0; exit 6'}
  for env in (fails, fails, works, fails, fails):
    assert sbatch(tmp_path, *FLAGS, env=env).code == 6
  assert len(calls_of(tmp_path, 'scontrol')) == 5, 'a checkpoint did not count'
  done = sbatch(tmp_path, *FLAGS, env=fails)
  assert done.code == 6 and 'not queued again: 2 ' in done.err
  assert len(calls_of(tmp_path, 'scontrol')) == 5, 'it would never end'
  # After it was submitted by hand, the count starts at 0.
  sbatch(tmp_path, *FLAGS, env=fails)
  assert len(calls_of(tmp_path, 'scontrol')) == 6


def test_tasks_of_an_array_have_their_own_flags(slurm, tmp_path):
  flags = ('--config=c.py', '--config.seed=%a', '--workdir=w/%a')
  sbatch(tmp_path, *flags, task=3, env={'STEP': 'exit 143'})
  assert calls_of(tmp_path, 'srun')[-2:] == ['--config.seed=3', '--workdir=w/3']
  assert calls_of(tmp_path, 'scontrol') == ['requeue 77_3'], (
    'only the task must be queued again, not the array'
  )
  entries = tmp_path / 'entries'
  entries.write_text('--workdir=a\n--config.x=1 --workdir=b-%a\n')
  for task, entry in enumerate(
    (['--workdir=a'], ['--config.x=1', '--workdir=b-1'])
  ):
    sbatch(tmp_path, '--config=c.py', task=task, env={'ENTRIES': 'entries'})
    call = calls_of(tmp_path, 'srun')
    assert call[call.index('launch.main') + 1 :] == ['--config=c.py', *entry]
  done = sbatch(tmp_path, '--config=c.py', task=2, env={'ENTRIES': 'entries'})
  assert done.code == 8 and 'ENTRIES=entries has no line 2' in done.err


@pytest.mark.parametrize(
  'flags, options, name',
  [
    (FLAGS[:2], {}, '--workdir=FOLDER'),
    (FLAGS, {'gpus_per_node': 8}, '--ntasks-per-node=1'),
  ],
)
def test_invalid_options_are_refused(slurm, tmp_path, flags, options, name):
  done = sbatch(tmp_path, *flags, **options)
  assert done.code == 8 and name in done.err
  assert not calls_of(tmp_path, 'srun')


def wait_for(path):
  deadline = time.monotonic() + 60
  while not path.exists() and time.monotonic() < deadline:
    time.sleep(0.02)


def test_a_job_that_is_cancelled_stays_so(slurm, tmp_path):
  # scancel signals the shell too, and the processes end with 143 as usual.
  step = 'touch started; sleep .3; exit 143'
  job = start_job(tmp_path, *FLAGS, env={'STEP': step})
  wait_for(tmp_path / 'started')
  job.terminate()
  trainer.wait(job)
  time.sleep(0.5)
  assert not calls_of(tmp_path, 'scontrol'), 'a cancelled job would run again'


# Two tasks of one machine, with the variables of SLURM; the highest exit code.
TWO_TASKS = """
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost highest=0
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!); done
for pid in "${pids[@]}"; do
  wait "$pid"; code=$?; ((code <= highest)) || highest=$code
done
exit "$highest"
"""


@pytest.mark.slow
def test_a_real_run_of_two_tasks_saves_at_its_time_limit_and_resumes(
  slurm, cluster, tmp_path, monkeypatch
):
  cluster('srun', TWO_TASKS)
  monkeypatch.chdir(trainer.ROOT)
  flags = (f'--config={trainer.TOY}', f'--workdir={tmp_path}/w')
  flags += ('--config.checkpoint_every=9.0', '--config.slow_evaluation=0.5')
  env = {'PYTHON': sys.executable}
  env['JAX_COORDINATOR_PORT'] = str(processes.free_port())
  job = start_job(tmp_path, *flags, env=env)
  trainer.wait_for_step(job, tmp_path / 'w', 5)
  # As --signal does: to all processes of the step, not to the shell.
  (step,) = children(job.pid)
  tasks = children(step)
  assert len(tasks) == 2
  for task in tasks:
    for process in (task, *children(task)):
      os.kill(process, signal.SIGTERM)
  done = trainer.wait(job)
  assert done.code == 143, done.err
  assert calls_of(tmp_path, 'scontrol') == ['requeue 77']
  assert 5 <= trainer.fingerprints(tmp_path / 'w')[0] < 31
  done = sbatch(tmp_path, *flags, env=env)
  assert done.code == 0, done.err
  steps = [record['step'] for record in trainer.records(tmp_path / 'w')]
  assert steps == sorted(steps) and steps[-1] == 31
  assert len(calls_of(tmp_path, 'scontrol')) == 1
  (*_, start) = json.loads((tmp_path / 'w' / 'env.json').read_text())
  assert len(start['devices']) == 2, 'SLURM was not detected'
