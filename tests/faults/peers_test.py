"""R8 and R9: several processes, of which one is lost, or on other devices."""

import os
import signal
import time

import pytest

from launch.checkpoints import manifest
from tests.faults import processes, trainer

TIMEOUT = 10.0
FLAGS = (f'--peer_timeout={TIMEOUT}',)
# Seconds that a process takes to end, beside the timeout: it is given five to
# write where it was, and the machine is busy.
SLACK = 6.0
# Long enough to be met in the middle.
LONG = {'epochs': 40.0, 'checkpoint_every': 2.0, 'eval_every': 10.0}
full = pytest.mark.skipif(not trainer.FULL, reason='of `make faults`')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The run of `LONG` by two processes, from beginning to end."""
  workdir = tmp_path_factory.mktemp('two')
  processes.train(workdir, 2, LONG, *FLAGS)
  return workdir


def survivor(done, *said):
  trainer.refused(done, 6, *said, 'To go on: ', '--process_id=')
  return done.reason


@pytest.mark.parametrize('rank', [0, pytest.param(1, marks=full)])
def test_a_killed_peer_ends_the_others_and_the_run_goes_on(
  rank, whole, tmp_path
):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  os.kill(processes.trainer_of(tmp_path, rank), signal.SIGKILL)
  begun = time.monotonic()
  done = processes.wait(started, 2 * TIMEOUT + SLACK)
  took = time.monotonic() - begun
  assert done[rank].code == 137, done[rank].err
  said = survivor(done[1 - rank], f'rank {rank} ', 'SIGKILL', 'done step ')
  assert took < TIMEOUT, f'its guard saw it at once, and it took {took:.1f} s'
  assert 'Traceback' not in done[1 - rank].err, said
  processes.train(tmp_path, 2, LONG, *FLAGS)
  trainer.assert_same_run(tmp_path, whole)


@full
def test_a_machine_that_is_gone_ends_the_others(tmp_path):
  """The guard is killed too, and nobody is left to tell."""
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  started[1].kill()  # Its trainer goes with it.
  begun = time.monotonic()
  done = processes.wait(started[:1], 2 * TIMEOUT + SLACK)[0]
  took = time.monotonic() - begun
  survivor(done, 'rank 1 ', 'was not heard of for 10 s', 'done step ')
  assert took < 2 * TIMEOUT, f'it took {took:.1f} s'
  pid = processes.trainer_of(tmp_path, 1)
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)


@full
def test_a_stopped_peer_ends_the_others(whole, tmp_path):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  os.kill(processes.trainer_of(tmp_path, 1), signal.SIGSTOP)
  done = processes.wait(started, 2 * TIMEOUT + SLACK)
  for one in done:  # The guard of the stopped one ends it, and itself.
    survivor(one, 'rank 1 ', 'is stopped', 'done step ')
  processes.train(tmp_path, 2, LONG, *FLAGS)
  trainer.assert_same_run(tmp_path, whole)


def test_a_sleeping_peer_ends_the_others_and_all_say_where_they_were(tmp_path):
  fields = LONG | {'task': 'tests.faults.sleepy_task'}
  started = processes.start(
    tmp_path, 2, fields, *FLAGS, env={1: {'SLEEPS_AT': '2000'}}
  )
  processes.wait_for_checkpoint(started, tmp_path)
  begun = time.monotonic()
  done = processes.wait(started, 100)
  for rank, one in enumerate(done):
    said = survivor(one, 'rank 1 ', 'is asleep', 'done step ')
    stacks = tmp_path / 'peers' / f'{rank}.stacks'
    assert str(stacks) in said
    assert 'loop.py' in stacks.read_text(), 'the main thread is not in it'
  assert 'sleepy_task.py' in (tmp_path / 'peers' / '1.stacks').read_text()
  assert time.monotonic() - begun < 2 * TIMEOUT + 30, 'it was asleep for long'
  left = [p.name for p in (tmp_path / 'checkpoints').glob('part-*')]
  assert not left, f'half a checkpoint is left: {left}'


@pytest.mark.parametrize('rank', [pytest.param(0, marks=full), 1])
def test_a_peer_that_never_joins_ends_the_others(rank, tmp_path):
  begun = time.monotonic()
  started = processes.start(tmp_path, 2, LONG, *FLAGS, missing=[rank])
  (done,) = processes.wait(started, 2 * TIMEOUT + SLACK)
  survivor(done, f'rank {rank} ', 'has not joined in 10 s', 'share')
  assert time.monotonic() - begun < 2 * TIMEOUT + SLACK
  assert not (tmp_path / 'config.json').exists(), 'a run was begun'


def test_a_peer_that_ends_by_itself_is_named_with_its_code(tmp_path):
  fields = LONG | {'task': 'tests.faults.spoilt_task'}
  odd = {1: {'data.dir': 'nan'}}
  done = processes.wait(processes.start(tmp_path, 2, fields, *FLAGS, odd=odd))
  trainer.refused(done[1], 3, "'x' has nan")
  survivor(done[0], 'rank 1 ', 'ended with exit code 3 (DATA)')


@pytest.mark.parametrize(
  'field, value',
  # The second is none of what makes a run this run.
  [('seed', 1), pytest.param('eval_every', 3.0, marks=full)],
)
def test_processes_with_other_configs_train_nothing(field, value, tmp_path):
  odd = {1: {field: value}}
  done = processes.wait(processes.start(tmp_path, 2, LONG, *FLAGS, odd=odd))
  said = f'config.{field} of rank 1 is not that of rank 0'
  for one in done:
    trainer.refused(one, 8, said)
  assert not (tmp_path / 'config.json').exists(), 'a run was begun'


@full
def test_processes_with_other_numbers_of_devices_train_nothing(tmp_path):
  env = {1: {'JAX_NUM_CPU_DEVICES': '2'}}
  done = processes.wait(processes.start(tmp_path, 2, LONG, *FLAGS, env=env))
  for one in done:
    trainer.refused(one, 8, 'devices (rank 0: 1, rank 1: 2)')


def test_the_same_command_again_leaves_a_run_alone(tmp_path):
  fields = LONG | {'epochs': 1000.0}
  started = processes.start(tmp_path, 2, fields, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  for one in processes.wait(processes.start(tmp_path, 2, fields, *FLAGS)):
    trainer.refused(one, 9, 'is in use: process ')
  for process in started:
    process.send_signal(signal.SIGTERM)
  processes.stopped(started)


@full
def test_a_run_is_begun_again_while_its_old_processes_still_end(
  whole, tmp_path
):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  started[0].kill()  # The other does not know yet.
  processes.train(tmp_path, 2, LONG, *FLAGS)
  survivor(processes.wait(started[1:])[0], 'rank 0 ', 'was started anew')
  trainer.assert_same_run(tmp_path, whole)


def test_a_signal_to_one_process_has_all_save_the_same_step(whole, tmp_path):
  started = processes.start(tmp_path, 2, LONG, *FLAGS)
  processes.wait_for_checkpoint(started, tmp_path)
  started[1].send_signal(signal.SIGTERM)
  done = processes.stopped(started)
  step, _ = trainer.digests(tmp_path)
  assert f'step {step} of ' in done[0].err and 'is saved' in done[0].err
  processes.train(tmp_path, 2, LONG, *FLAGS)
  trainer.assert_same_run(tmp_path, whole)


@full
def test_all_go_on_from_the_checkpoint_before_a_damaged_one(whole, tmp_path):
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
  assert f'checkpoint {newest} is damaged' in done[0].err
  assert len(list((tmp_path / 'damaged').iterdir())) == 1
  trainer.assert_same_run(tmp_path, whole)


# --- Other numbers of devices ---

ELASTIC = {'device_count_invariant': True, 'virtual_devices': 4}


@pytest.fixture(scope='module')
def elastic(tmp_path_factory):
  """An elastic run of one process with one device."""
  workdir = tmp_path_factory.mktemp('elastic')
  processes.train(workdir, 1, ELASTIC)
  return workdir


@full
def test_elastic_runs_do_not_go_on_with_other_threads(tmp_path):
  fields = ELASTIC | {'epochs': 2.0}
  processes.train(tmp_path, 1, fields)
  fields |= {'epochs': 3.0}
  flags = ('--allow_resume_change=epochs',)
  started = processes.start(
    tmp_path, 1, fields, *flags, env={0: {'NPROC': '12'}}
  )
  (done,) = processes.wait(started)
  trainer.refused(done, 8, 'threads (NPROC): 10')


@pytest.mark.parametrize(
  'count, devices',
  [
    pytest.param(1, 2, marks=full),
    pytest.param(2, 1, marks=full),
    (2, 2),
    pytest.param(4, 1, marks=full),
  ],
)
def test_elastic_runs_have_the_same_bits_on_any_devices(
  count, devices, elastic, tmp_path
):
  processes.train(tmp_path, count, ELASTIC, *FLAGS, devices=devices)
  assert trainer.digests(tmp_path) == trainer.digests(elastic)


@full
def test_an_elastic_run_goes_on_with_the_same_bits_on_other_devices(tmp_path):
  """1, 4, 2 and 1 devices, of one and of two processes."""
  fields = ELASTIC | LONG
  processes.train(tmp_path / 'whole', 1, fields)
  for count, devices in ((1, 1), (2, 2), (2, 1)):
    before = max(manifest.steps(tmp_path / 'parts' / 'checkpoints'), default=-1)
    started = processes.start(
      tmp_path / 'parts', count, fields, *FLAGS, devices=devices
    )
    processes.wait_for_checkpoint(started, tmp_path / 'parts', before)
    for process in started:
      process.send_signal(signal.SIGTERM)
    processes.stopped(started)
  processes.train(tmp_path / 'parts', 1, fields)
  trainer.assert_same_run(tmp_path / 'parts', tmp_path / 'whole')


@full
def test_a_run_goes_on_with_other_devices_and_nearly_the_same_loss(
  whole, tmp_path
):
  started = processes.start(tmp_path, 1, LONG)
  processes.wait_for_checkpoint(started, tmp_path)
  started[0].send_signal(signal.SIGTERM)
  processes.stopped(started)
  processes.train(tmp_path, 2, LONG, *FLAGS, devices=2)
  found, expected = trainer.rows(tmp_path), trainer.rows(whole)
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    assert one == pytest.approx(other, abs=1e-4), 'another run'
