"""R8: the real tasks on one, two and four processes."""

import pytest

from tests.faults import processes, trainer
from tests.jaxretrieval import planted

FLAGS = ('--peer_timeout=60',)
CLASSIFICATION = {
  'epochs': 0.2,
  'batch_size': 16,
  'steps_per_dispatch': 4,
  'log_every': 4,
  'evals.clean.batch_size': 80,  # of 360: the last is padded
  # With the usual one, roundings grow a hundredfold in four steps.
  'optimizer.lr': 1e-4,
}
# More processes than `make test` has time for.
full = pytest.mark.skipif(not trainer.FULL, reason='of `make faults`')
TASKS = ['classification', 'retrieval']
PROCESSES = [(1, 4), (2, 1), (2, 2), (4, 1)]


def every(few):
  """The names of tasks and numbers of processes; in `make test` one of them."""
  return pytest.mark.parametrize(
    'name, count, devices',
    [
      pytest.param(name, *both, marks=[] if (name, *both) == few else full)
      for name in TASKS
      for both in PROCESSES
    ],
  )


@pytest.fixture(scope='session')
def features(made_once):
  return next(made_once('planted', planted.write).glob('planted/*/1.0.0'))


@pytest.fixture(scope='session')
def task(features, made_once):
  """`task(name, mode)`: the config and the fields of a run, and one of it."""

  def fields_of(name, mode):
    elastic = {'device_count_invariant': True, 'virtual_devices': 4}
    more = elastic if mode == 'elastic' else {}
    if name == 'retrieval':
      config = 'tests/faults/planted_config.py'
      return config, more | {'data.source': features}
    if mode == 'elastic':
      more |= {'batch_norm': 'ghost'}
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
def test_elastic_runs_have_the_same_bits(name, count, devices, task, tmp_path):
  config, fields, alone = task(name, 'elastic')
  processes.train(
    tmp_path, count, fields, *FLAGS, devices=devices, config=config
  )
  assert trainer.digests(tmp_path) == trainer.digests(alone)
  for one, other in zip(
    trainer.rows(tmp_path), trainer.rows(alone), strict=True
  ):
    assert one == pytest.approx(other, abs=1e-5), 'an example counts twice'


@every(('retrieval', 2, 1))
def test_runs_have_the_same_examples_and_draws_and_nearly_the_same_loss(
  name, count, devices, task, tmp_path
):
  config, fields, alone = task(name, 'default')
  done = processes.train(
    tmp_path, count, fields, *FLAGS, devices=devices, config=config
  )
  found, expected = trainer.rows(tmp_path), trainer.rows(alone)
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    # The loss of retrieval is in the hundreds, and of 32 bits.
    assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
  told = [one.err.count('ETA') + one.out.count('accuracy') for one in done]
  assert not any(told[1:]), 'what process 0 tells is told by others too'


def test_streamed_examples_are_read_by_the_process_that_needs_them(tmp_path):
  toy = 'tests/launch/toy_config.py'
  fields = {'batch_size': 20}
  for name in ('', ':streamed'):
    workdir = tmp_path / f'run{name[1:]}'
    processes.train(workdir, 2, fields, *FLAGS, config=toy + name)
  resident, streamed = (
    trainer.rows(tmp_path / name) for name in ('run', 'runstreamed')
  )
  assert resident == streamed, 'another order, or a row of another process'


@full
def test_photographs_are_read_and_evaluated_once_by_two_processes(
  imagenet, tmp_path
):
  """Training and evaluation are streamed, each by the process that needs it."""
  fields = {'data.dir': imagenet, 'epochs': 2.0, 'eval_every': 1.0}
  config = 'tests/faults/tiny_config.py:imagenet'
  for count in (1, 2):
    processes.train(tmp_path / str(count), count, fields, *FLAGS, config=config)
  one, two = (trainer.rows(tmp_path / count) for count in '12')
  assert len(one) == len(two) > 2
  for row, other in zip(one, two, strict=True):
    assert row == pytest.approx(other, rel=1e-5, abs=1e-5)
