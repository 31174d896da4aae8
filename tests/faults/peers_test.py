"""R8 and R9: a run of several processes, of which one fails or is stopped."""

import os
import signal
import time

import pytest

from launch.checkpoints import manifest
from tests.faults import processes, trainer

pytestmark = pytest.mark.slow

TIMEOUT = 10.0
FLAGS = (f'--peer_timeout={TIMEOUT}',)
# Seconds that a process takes to end after the timeout: five to write its stack
# traces, on a busy machine.
SLACK = 6.0
# Long enough to be interrupted before it ends.
LONG = {'epochs': 40.0, 'checkpoint_every': 2.0, 'eval_every': 10.0}
full = pytest.mark.skipif(not trainer.FULL, reason='FAULTS=full')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The workdir of an uninterrupted run of `LONG` by two processes."""
  workdir = tmp_path_factory.mktemp('two')
  processes.train(workdir, 2, LONG, *FLAGS)
  return workdir


def check_survivor(done, *names):
  """Asserts that a process ended because a peer failed; returns its message."""
  trainer.refused(done, 6, *names, '-m launch.main', '--process_id=')
  return done.reason


@pytest.mark.parametrize('rank', [0, pytest.param(1, marks=full)])
def test_a_killed_peer_ends_the_others_and_the_run_resumes(
  rank, whole, tmp_path
):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  os.kill(processes.trainer_of(tmp_path, rank), signal.SIGKILL)
  killed = time.monotonic()
  done = processes.wait(started, 2 * TIMEOUT + SLACK)
  seconds = time.monotonic() - killed
  assert done[rank].code == 137, done[rank].err
  check_survivor(done[1 - rank], f'rank {rank} ', 'SIGKILL', 'step ')
  assert seconds < TIMEOUT, f'it took {seconds:.1f} s'
  processes.train(tmp_path, 2, LONG, *FLAGS)
  trainer.assert_same_run(tmp_path, whole)


@full
def test_a_lost_machine_ends_the_others(tmp_path):
  """The watchdog is killed too, so that no heartbeat reports the failure."""
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  started[1].kill()  # Its trainer goes with it.
  killed = time.monotonic()
  done = processes.wait(started[:1], 2 * TIMEOUT + SLACK)[0]
  seconds = time.monotonic() - killed
  check_survivor(done, 'rank 1 ', '10 s', 'step ')
  assert seconds < 2 * TIMEOUT, f'it took {seconds:.1f} s'
  pid = processes.trainer_of(tmp_path, 1)
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)


@full
def test_a_stopped_peer_ends_the_others(whole, tmp_path):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  os.kill(processes.trainer_of(tmp_path, 1), signal.SIGSTOP)
  done = processes.wait(started, 2 * TIMEOUT + SLACK)
  for one in done:  # The watchdog of the stopped process ends both.
    check_survivor(one, 'rank 1 ', 'stopped', 'step ')
  processes.train(tmp_path, 2, LONG, *FLAGS)
  trainer.assert_same_run(tmp_path, whole)


def test_a_hanging_peer_ends_the_others_and_all_write_stack_traces(tmp_path):
  fields = LONG | {'task': 'tests.faults.sleepy_task'}
  started = processes.start(
    tmp_path, 2, fields, *FLAGS, env={1: {'SLEEPS_AT': '2000'}}
  )
  processes.wait_for_checkpoint(started, tmp_path)
  saved = time.monotonic()
  done = processes.wait(started, 100)
  for rank, one in enumerate(done):
    stacks = tmp_path / 'peers' / f'{rank}.stacks'
    check_survivor(one, 'rank 1 ', 'idle', 'step ', str(stacks))
    assert 'loop.py' in stacks.read_text(), 'the main thread is missing'
  assert 'sleepy_task.py' in (tmp_path / 'peers' / '1.stacks').read_text()
  assert time.monotonic() - saved < 2 * TIMEOUT + 30
  left = [p.name for p in (tmp_path / 'checkpoints').glob('part-*')]
  assert not left, f'part of a checkpoint is left: {left}'


@pytest.mark.parametrize('rank', [pytest.param(0, marks=full), 1])
def test_a_peer_that_never_joins_ends_the_others(rank, tmp_path):
  flags = ('--peer_timeout=4',)
  started = processes.start(tmp_path, 2, LONG, *flags, missing=[rank])
  (done,) = processes.wait(started, 2 * TIMEOUT + SLACK)
  check_survivor(done, f'rank {rank} ', 'joined', '4 s', '--workdir')
  assert not (tmp_path / 'config.json').exists(), 'a run was started'


def test_a_peer_that_ends_by_itself_is_named_with_its_exit_code(tmp_path):
  fields = LONG | {'task': 'tests.faults.spoilt_task'}
  odd = {1: {'data.dir': 'nan'}}
  done = processes.wait(processes.start(tmp_path, 2, fields, *FLAGS, odd=odd))
  trainer.refused(done[1], 3, "'x'")
  check_survivor(done[0], 'rank 1 ', 'exit code 3 (DATA)')


@pytest.mark.parametrize(
  'field, value',
  # The second is not part of the identity of a run.
  [('seed', 1), pytest.param('eval_every', 3.0, marks=full)],
)
def test_processes_with_different_configs_do_not_train(field, value, tmp_path):
  odd = {1: {field: value}}
  done = processes.wait(processes.start(tmp_path, 2, LONG, *FLAGS, odd=odd))
  for one in done:
    trainer.refused(one, 8, f'config.{field}', 'rank 1')
  assert not (tmp_path / 'config.json').exists(), 'a run was started'


@full
def test_processes_with_different_numbers_of_devices_do_not_train(tmp_path):
  env = {1: {'JAX_NUM_CPU_DEVICES': '2'}}
  done = processes.wait(processes.start(tmp_path, 2, LONG, *FLAGS, env=env))
  for one in done:
    trainer.refused(one, 8, 'rank 0: 1, rank 1: 2')


@full
def test_starting_the_same_command_again_does_not_affect_a_run(tmp_path):
  fields = LONG | {'epochs': 1000.0}
  started = processes.start(tmp_path, 2, fields, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  for one in processes.wait(processes.start(tmp_path, 2, fields, *FLAGS)):
    trainer.refused(one, 9, 'process ')
  for process in started:
    process.send_signal(signal.SIGTERM)
  processes.stopped(started)


@full
def test_a_run_is_restarted_while_its_old_processes_still_end(whole, tmp_path):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  started[0].kill()  # The other has not noticed yet.
  processes.train(tmp_path, 2, LONG, *FLAGS)
  check_survivor(processes.wait(started[1:])[0], 'rank 0 ', 'restarted')
  trainer.assert_same_run(tmp_path, whole)


def test_a_signal_to_one_process_makes_all_save_the_same_step(whole, tmp_path):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  started[1].send_signal(signal.SIGTERM)
  done = processes.stopped(started)
  step, _ = trainer.fingerprints(tmp_path)
  assert f'step {step} of ' in done[0].err
  processes.train(tmp_path, 2, LONG, *FLAGS)
  trainer.assert_same_run(tmp_path, whole)


@full
def test_all_resume_from_the_checkpoint_before_a_damaged_one(whole, tmp_path):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  processes.wait_for_checkpoint(
    started, tmp_path, max(manifest.steps(tmp_path / 'checkpoints'))
  )
  for process in started:
    process.send_signal(signal.SIGTERM)
  processes.stopped(started)
  newest = max(manifest.steps(tmp_path / 'checkpoints'))
  path = tmp_path / 'checkpoints' / str(newest) / manifest.NAME
  path.write_bytes(path.read_bytes()[:-9])
  done = processes.train(tmp_path, 2, LONG, *FLAGS)
  assert f'checkpoint {newest}' in done[0].err
  assert len(list((tmp_path / 'damaged').iterdir())) == 1
  trainer.assert_same_run(tmp_path, whole)
