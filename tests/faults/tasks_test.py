"""R8: the real tasks on one, two and four processes."""

import pytest

from tests.faults import processes, trainer
from tests.jaxretrieval import planted

FLAGS = ('--peer_timeout=60',)
CLASSIFICATION = {
  'epochs': 0.2,
  'batch_size': 16,
  'steps_per_call': 4,
  'log_every': 4,
  'evals.clean.batch_size': 80,  # of 360: the last is padded
  # With the usual one, roundings grow a hundredfold in four steps.
  'optimizer.lr': 1e-4,
}
# More processes than `make test` has time for.
full = pytest.mark.skipif(not trainer.FULL, reason='of `make faults`')
TASKS = ['classification', 'retrieval']
PROCESSES = [
  pytest.param(1, 4, marks=full),
  (2, 1),
  pytest.param(2, 2, marks=full),
  pytest.param(4, 1, marks=full),
]


@pytest.fixture(scope='session')
def features(made_once):
  return next(made_once('planted', planted.write).glob('planted/*/1.0.0'))


@pytest.fixture(scope='session')
def task(features, made_once):
  """`task(name, mode)`: the config and the fields of a run, and one of it."""

  def fields_of(name, mode):
    elastic = {'determinism': 'elastic', 'virtual_shards': 4}
    more = elastic if mode == 'elastic' else {}
    if name == 'retrieval':
      config = 'tests/faults/planted_config.py'
      return config, more | {'data.source': features}
    if mode == 'elastic':
      more |= {'batch_norm': 'shard'}
    return 'configs/quickstart.py', more | CLASSIFICATION

  def made(name, mode):
    config, fields = fields_of(name, mode)
    alone = made_once(
      f'{name}_{mode}',
      lambda workdir: processes.train(workdir, 1, fields, config=config),
    )
    return config, fields, alone

  return made


@pytest.mark.parametrize('count, devices', PROCESSES)
@pytest.mark.parametrize('name', TASKS)
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


@pytest.mark.parametrize('count, devices', PROCESSES)
@pytest.mark.parametrize('name', TASKS)
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
