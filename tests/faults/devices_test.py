"""R8: the same results on one, two and four processes, with 1 to 4 devices."""

import signal

import pytest

from launch.checkpoints import manifest
from tests.faults import processes, trainer
from tests.jaxretrieval import planted

# Four processes compile a network on two cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FLAGS = ('--peer_timeout=60',)
INVARIANT = {'device_count_invariant': True, 'virtual_devices': 4}
# Long enough to be interrupted before it ends.
LONG = {'epochs': 40.0, 'checkpoint_every': 2.0, 'eval_every': 10.0}
CLASSIFICATION = {
  'epochs': 0.2,
  'batch_size': 16,
  'steps_per_dispatch': 4,
  'log_every': 4,
  'evals.clean.batch_size': 80,  # of 360: the last is padded
  # With the default, rounding errors grow a hundredfold in four steps.
  'optimizer.lr': 1e-4,
}
full = pytest.mark.skipif(not trainer.FULL, reason='FAULTS=full')
TASKS = ['classification', 'retrieval']
PROCESSES = [(1, 4), (2, 1), (2, 2), (4, 1)]


def every(default):
  """Parametrizes tasks and processes; only `default` without FAULTS=full."""
  return pytest.mark.parametrize(
    'name, count, devices',
    [
      pytest.param(name, *both, marks=[] if (name, *both) == default else full)
      for name in TASKS
      for both in PROCESSES
    ],
  )


@pytest.fixture(scope='session')
def features(made_once):
  return next(made_once('planted', planted.write).glob('planted/*/1.0.0'))


@pytest.fixture(scope='session')
def task(features, made_once):
  """Returns `task(name, mode)`: config, fields and a run of one process."""

  def fields_of(name, mode):
    more = INVARIANT if mode == 'invariant' else {}
    if name == 'retrieval':
      config = 'tests/faults/planted_config.py'
      return config, more | {'data.source': features}
    if mode == 'invariant':
      more = more | {'batch_norm': 'ghost'}
    return 'configs/quickstart.py', more | CLASSIFICATION

  def made(name, mode):
    config, fields = fields_of(name, mode)
    alone = made_once(
      f'{name}_{mode}',
      lambda workdir: processes.train(workdir, 1, fields, config=config),
    )
    return config, fields, alone

  return made


@every(('classification', 2, 1))
def test_device_count_invariant_tasks_have_the_same_bits(
  name, count, devices, task, tmp_path
):
  config, fields, alone = task(name, 'invariant')
  processes.train(
    tmp_path, count, fields, *FLAGS, devices=devices, config=config
  )
  assert trainer.fingerprints(tmp_path) == trainer.fingerprints(alone)
  for one, other in zip(
    trainer.records(tmp_path), trainer.records(alone), strict=True
  ):
    assert one == pytest.approx(other, abs=1e-5), (
      'an example is evaluated twice'
    )


@every(('retrieval', 2, 1))
def test_tasks_have_the_same_draws_and_nearly_the_same_loss(
  name, count, devices, task, tmp_path
):
  config, fields, alone = task(name, 'default')
  done = processes.train(
    tmp_path, count, fields, *FLAGS, devices=devices, config=config
  )
  found, expected = trainer.records(tmp_path), trainer.records(alone)
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    # The loss of retrieval is in the hundreds, in float32.
    assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
  printed = [one.err.count('ETA') + one.out.count('accuracy') for one in done]
  assert not any(printed[1:]), 'not only process 0 prints progress'


def test_streamed_examples_are_read_by_the_process_that_needs_them(tmp_path):
  toy = 'tests/launch/toy_config.py'
  fields = {'batch_size': 20}
  for name in ('', ':streamed'):
    workdir = tmp_path / f'run{name[1:]}'
    processes.train(workdir, 2, fields, *FLAGS, config=toy + name)
  resident, streamed = (
    trainer.records(tmp_path / name) for name in ('run', 'runstreamed')
  )
  assert resident == streamed, 'the order of the examples differs'


@full
def test_jpeg_images_are_read_and_evaluated_once_by_two_processes(
  imagenet, tmp_path
):
  """Each process streams only its own part of the data."""
  fields = {'data.dir': imagenet, 'epochs': 2.0, 'eval_every': 1.0}
  config = 'tests/faults/tiny_config.py:imagenet'
  for count in (1, 2):
    processes.train(tmp_path / str(count), count, fields, *FLAGS, config=config)
  one, two = (trainer.records(tmp_path / count) for count in '12')
  assert len(one) == len(two) > 2
  for row, other in zip(one, two, strict=True):
    assert row == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """The workdir of an invariant run of one process with one device."""
  workdir = tmp_path_factory.mktemp('alone')
  processes.train(workdir, 1, INVARIANT)
  return workdir


@full
def test_invariant_runs_do_not_resume_with_other_threads(tmp_path):
  fields = INVARIANT | {'epochs': 2.0}
  processes.train(tmp_path, 1, fields)
  fields |= {'epochs': 3.0}
  flags = ('--allow_resume_change=epochs',)
  started = processes.start(
    tmp_path, 1, fields, *flags, env={0: {'NPROC': '12'}}
  )
  (done,) = processes.wait(started)
  trainer.refused(done, 8, 'NPROC', '10', '12')


@pytest.mark.parametrize(
  'count, devices',
  [
    pytest.param(1, 2, marks=full),
    pytest.param(2, 1, marks=full),
    (2, 2),
    pytest.param(4, 1, marks=full),
  ],
)
def test_invariant_runs_have_the_same_bits_on_any_devices(
  count, devices, alone, tmp_path
):
  processes.train(tmp_path, count, INVARIANT, *FLAGS, devices=devices)
  assert trainer.fingerprints(tmp_path) == trainer.fingerprints(alone)


@full
def test_an_invariant_run_resumes_with_the_same_bits_on_other_devices(tmp_path):
  """1, 4, 2 and 1 devices, of one and of two processes."""
  fields = INVARIANT | LONG
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
def test_a_run_resumes_on_other_devices_with_nearly_the_same_loss(tmp_path):
  processes.train(tmp_path / 'whole', 2, LONG, *FLAGS)
  started = processes.start(tmp_path / 'other', 1, LONG)
  processes.wait_for_checkpoint(started, tmp_path / 'other')
  started[0].send_signal(signal.SIGTERM)
  processes.stopped(started)
  processes.train(tmp_path / 'other', 2, LONG, *FLAGS, devices=2)
  found, expected = (
    trainer.records(tmp_path / name) for name in ('other', 'whole')
  )
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    assert one == pytest.approx(other, abs=1e-4), 'the metrics differ'
