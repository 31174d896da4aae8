import gc
import json
import shutil
import threading
import time

import jax
import numpy as np
import pytest

from launch.checkpoints import manifest
from launch.checkpoints.manager import Checkpoints
from launch.checkpoints.storage import read_newest
from launch.mesh import make_mesh
from launch.train import assemble, setup
from launch.train.feeds import resident_feed
from launch.train.loop import fit
from launch.workdir.metrics import MetricWriter, final_metrics, read_metrics
from tests.launch import toy_task
from tests.launch.toy_config import make_config
from tests.launch.toy_task import changed_task


def final_state(workdir):
  """The newest checkpoint of a run, as nested dicts on the host."""
  return read_newest(workdir / 'checkpoints')[2]


def rows_without_time(workdir):
  return [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in read_metrics(workdir)
  ]


def assert_same_run(a, b):
  """Asserts that two runs have the same state and metrics, to the bit."""
  jax.tree.map(np.testing.assert_array_equal, final_state(a), final_state(b))
  assert rows_without_time(a) == rows_without_time(b)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run of the toy config from beginning to end."""
  workdir = tmp_path_factory.mktemp('whole')
  fit(toy_task, make_config(), workdir)
  return workdir


@pytest.fixture(scope='module')
def streamed(tmp_path_factory):
  """The same run with streamed data."""
  workdir = tmp_path_factory.mktemp('streamed')
  fit(toy_task, make_config('streamed'), workdir)
  return workdir


def hooked_task(on_queue=lambda: None, on_read=lambda: None):
  """The toy task, whose evaluation calls a hook when it is queued and read."""

  def make_evaluators(config, mesh):
    test = toy_task.make_evaluators(config, mesh)['test']

    def wrapped(params, model_state):
      on_queue()
      results = test(params, model_state)

      def read():
        on_read()
        return results()

      return read

    return {'test': wrapped}

  return changed_task(make_evaluators=make_evaluators)


def crash_at(evaluation):
  """A function that fails at its n-th call."""
  calls = iter(range(1, 1000))

  def crash():
    if next(calls) == evaluation:
      raise KeyError('the evaluator has a bug')

  return crash


def test_a_run_leaves_what_it_should(whole):
  rows = read_metrics(whole)
  logged = [row['step'] for row in rows if 'train/loss' in row]
  evaluated = [row['step'] for row in rows if 'test/accuracy' in row]
  # 3 steps, then 28 by fours; 5 steps or 6.25 (an epoch) after the last time.
  assert logged == [7, 11, 15, 23, 27, 31]
  assert evaluated == [7, 15, 19, 27, 31]
  assert {p.name for p in (whole / 'checkpoints').iterdir()} == {'27', '31'}
  assert rows[-1]['final'] and rows[-1]['test/accuracy'] > 0.85
  assert rows[-1]['epoch'] == pytest.approx(31 * 16 / 100)
  assert json.loads((whole / 'config.json').read_text()) == (
    make_config().to_dict()
  )
  (start,) = json.loads((whole / 'env.json').read_text())
  assert start['versions']['jax'] == jax.__version__
  assert start['devices'] and start['command'] and start['step'] == 0
  assert any('time/examples_per_s' in row for row in rows)


@pytest.mark.slow
def test_another_seed_gives_another_run(whole, tmp_path):
  config = make_config(seed=1)
  fit(toy_task, config, tmp_path)
  a, b = final_state(whole), final_state(tmp_path)
  assert (a['params']['w1'] != b['params']['w1']).all()


@pytest.mark.slow
def test_streamed_data_give_the_run_of_resident_data(whole, streamed):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    final_state(whole),
    final_state(streamed),
  )


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  'evaluation, saved, hook',
  [
    (2, {15}, 'on_queue'),
    pytest.param(2, {15}, 'on_read', marks=SLOW),
    pytest.param(3, {15}, 'on_queue', marks=SLOW),
    pytest.param(3, {15}, 'on_read', marks=SLOW),
    pytest.param(4, {15, 27}, 'on_queue', marks=SLOW),
    (4, {15, 27}, 'on_read'),
    (5, {27, 31}, 'on_queue'),
    pytest.param(5, {27, 31}, 'on_read', marks=SLOW),
  ],
)
def test_a_run_resumes_after_a_crash(whole, tmp_path, evaluation, saved, hook):
  with pytest.raises(KeyError, match='a bug'):
    fit(hooked_task(**{hook: crash_at(evaluation)}), make_config(), tmp_path)
  assert final_metrics(tmp_path) is None
  assert {int(p.name) for p in (tmp_path / 'checkpoints').iterdir()} == saved
  fit(toy_task, make_config(), tmp_path)
  assert_same_run(whole, tmp_path)


@pytest.mark.slow
def test_a_streamed_run_resumes_after_a_crash(streamed, tmp_path):
  with pytest.raises(KeyError, match='a bug'):
    fit(hooked_task(crash_at(4)), make_config('streamed'), tmp_path)
  fit(toy_task, make_config('streamed'), tmp_path)
  assert_same_run(streamed, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_damaged_checkpoint_costs_only_time(whole, tmp_path):
  with pytest.raises(KeyError):
    fit(hooked_task(crash_at(5)), make_config(), tmp_path)
  for path in (tmp_path / 'checkpoints' / '31' / 'state').rglob('d/*'):
    path.write_bytes(b'')
  fit(toy_task, make_config(), tmp_path)
  assert_same_run(whole, tmp_path)
  gc.collect()  # What orbax left behind complains here, not in other tests.


def test_a_finished_run_is_left_alone(whole, capsys):
  before = {p: p.read_bytes() for p in whole.rglob('*') if p.is_file()}
  metrics = fit(hooked_task(crash_at(1)), make_config(), whole)
  assert metrics == final_metrics(whole)
  assert 'finished before' in capsys.readouterr().out
  assert before == {p: p.read_bytes() for p in whole.rglob('*') if p.is_file()}


def test_a_finished_run_whose_state_is_lost_says_so(whole, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(whole, workdir)
  newest = max(manifest.steps(workdir / 'checkpoints'))
  path = workdir / 'checkpoints' / str(newest) / 'manifest.json'
  path.write_bytes(path.read_bytes()[:-10])
  for lost in (f'{newest}/manifest.json is damaged', 'holds no checkpoint'):
    metrics = fit(toy_task, make_config(), workdir)
    assert metrics == final_metrics(whole)
    err = capsys.readouterr().err
    assert err.startswith('warning: ') and lost in err
    shutil.rmtree(workdir / 'checkpoints', ignore_errors=True)


def test_a_changed_config_is_refused(whole):
  with pytest.raises(ValueError, match='optimizer.lr: 0.1 .* 0.5'):
    fit(toy_task, make_config(**{'optimizer.lr': 0.5}), whole)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
  config = make_config(diverge_at=22)
  with pytest.raises(FloatingPointError, match='loss of step 22 is not finite'):
    fit(toy_task, config, tmp_path)
  saved = {p.name for p in (tmp_path / 'checkpoints').iterdir()}
  assert saved == {'15'}, 'a diverged state was saved'
  # A resumed run fails at the same step: nothing is hidden.
  with pytest.raises(FloatingPointError, match='loss of step 22 is not finite'):
    fit(toy_task, config, tmp_path)


@pytest.mark.parametrize('step', [27, 31])
def test_the_steps_before_a_checkpoint_are_read_before_it(tmp_path, step):
  with pytest.raises(FloatingPointError):
    fit(toy_task, make_config(diverge_at=step), tmp_path)
  saved = {int(p.name) for p in (tmp_path / 'checkpoints').iterdir()}
  assert max(saved) < step


def test_the_device_always_has_work_when_the_host_waits(tmp_path, monkeypatch):
  events = []

  def note(name, function):
    def noting(*args, **kwargs):
      if threading.current_thread() is threading.main_thread():
        events.append(name)
      return function(*args, **kwargs)

    return noting

  def wrap(module, name):
    monkeypatch.setattr(module, name, note(name, getattr(module, name)))

  make_train_steps = assemble.make_train_steps
  make_snapshot = setup.make_snapshot
  monkeypatch.setattr(
    assemble,
    'make_train_steps',
    lambda *a, **k: note('dispatch', make_train_steps(*a, **k)),
  )
  monkeypatch.setattr(
    setup, 'make_snapshot', lambda mesh: note('copy', make_snapshot(mesh))
  )
  wrap(jax, 'device_get')
  wrap(Checkpoints, 'save')
  wrap(MetricWriter, 'write')
  task = hooked_task(
    note('on_queue', lambda: None), note('on_read', lambda: None)
  )
  # Every boundary logs, saves and evaluates.
  config = make_config(
    log_every=1, eval_every=0.01, checkpoint_every=0.01, steps_per_dispatch=8
  )
  fit(task, config, tmp_path)
  read = ['device_get', 'device_get', 'write']  # the loss, then a row
  boundary = ['on_queue', 'copy', 'dispatch', *read, 'save', 'on_read', 'write']
  end = ['on_queue', *read, 'save', 'on_read', 'write']
  # The initial state is read from the device that computed it.
  assert events == ['device_get', 'dispatch', *boundary * 3, *end]


def assert_nothing_compiled(workdir, since_epoch):
  # Anything else is a warning too, and so an error in these tests.
  counts = {
    row['time/compilations']
    for row in read_metrics(workdir)
    if 'time/compilations' in row and row['epoch'] > since_epoch
  }
  assert len(counts) == 1


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_epoch(tmp_path):
  config = make_config(epochs=3.0, checkpoint_every=1.0, steps_per_dispatch=2)
  fit(toy_task, config, tmp_path)
  assert_nothing_compiled(tmp_path, since_epoch=1.5)


@pytest.mark.slow
def test_a_looped_run_compiles_nothing_late_and_the_host_does_little(
  tmp_path, monkeypatch
):
  times = []
  make_train_steps = assemble.make_train_steps

  def make_timed(*args, **options):
    train_steps = make_train_steps(*args, **options | {'looped': True})

    def timed(*args):
      times.append(time.thread_time())
      return train_steps(*args)

    return timed

  monkeypatch.setattr(assemble, 'make_train_steps', make_timed)
  config = make_config(
    steps_per_dispatch=32,
    epochs=160.0,
    log_every=64,
    eval_every=20.0,
    checkpoint_every=20.0,
  )
  fit(toy_task, config, tmp_path)
  assert_nothing_compiled(tmp_path, since_epoch=31.0)
  spent = np.diff(times)[10:] / 32
  # benchmarks/host_loop.py measures 5 to 10 us. Compiling, or copying each
  # example, takes hundreds.
  assert np.median(spent) < 100e-6, f'{1e6 * np.median(spent):.0f} us a step'


def test_a_late_compilation_is_named(tmp_path):
  late = iter([lambda: None] * 3 + [lambda: jax.jit(tardy)(0)] * 9)

  def tardy(x):
    return x + 1

  def on_read():
    next(late)()

  with pytest.warns(RuntimeWarning, match=r'tardy.*step 30'):
    fit(hooked_task(on_read=on_read), make_config(epochs=6.0), tmp_path)


def test_data_that_shrank_are_refused(tmp_path):
  with pytest.raises(KeyError):
    fit(hooked_task(crash_at(3)), make_config(), tmp_path)
  fewer = {name: array[:99] for name, array in toy_task.arrays().items()}
  task = changed_task(train_data=lambda config: fewer)
  with pytest.raises(ValueError, match='examples: 100 .* 99'):
    fit(task, make_config(), tmp_path)


def test_evaluators_may_not_take_a_name(tmp_path):
  evaluators = {'train': lambda params, model_state: {}}
  task = changed_task(make_evaluators=lambda config, mesh: evaluators)
  with pytest.raises(ValueError, match=r"\['train'\]"):
    fit(task, make_config(), tmp_path)
  assert not list(tmp_path.iterdir()), 'a mistake left files behind'


def test_a_hidden_copy_to_the_device_is_an_error(tmp_path, monkeypatch):
  def host_feed(*args, **options):
    feed = resident_feed(*args, **options)
    return feed._replace(
      chunks=lambda step: map(jax.device_get, feed.chunks(step))
    )

  monkeypatch.setattr(assemble, 'make_feed', host_feed)
  with pytest.raises(Exception, match='Disallowed host-to-device'):
    fit(toy_task, make_config(), tmp_path)


@pytest.mark.devices
def test_a_run_of_eight_devices_resumes_on_one(tmp_path, monkeypatch):
  config = make_config()
  fit(toy_task, config, tmp_path / 'eight')
  with pytest.raises(KeyError):
    fit(hooked_task(crash_at(3)), config, tmp_path / 'fewer')
  monkeypatch.setattr(setup, 'make_mesh', lambda: make_mesh(jax.devices()[:1]))
  fit(toy_task, config, tmp_path / 'fewer')
  eight, fewer = (rows_without_time(tmp_path / n) for n in ('eight', 'fewer'))
  assert len(eight) == len(fewer)
  for a, b in zip(eight, fewer, strict=True):
    assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


@pytest.mark.devices
def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'batch_size=12 .*\(8\)'):
    fit(toy_task, make_config(batch_size=12), tmp_path)


@pytest.mark.slow
def test_a_finished_run_can_be_extended_and_keeps_its_result(whole, tmp_path):
  shutil.copytree(whole, tmp_path / 'run')
  config = make_config(epochs=8.0, eval_every=3.0)
  fit(toy_task, config, tmp_path / 'run', allow_resume_change=['epochs'])
  rows = read_metrics(tmp_path / 'run')
  assert [row['step'] for row in rows if row.get('final')] == [50]
  ended = [r for r in read_metrics(whole) if r.get('final')]
  kept = [r for r in rows if r['step'] == 31 and 'test/accuracy' in r]
  assert [{**r, 'final': True} for r in kept] == ended
  # No shorter than it has become.
  with pytest.raises(ValueError, match='config.epochs=2.0 .* 12 '):
    fit(
      toy_task,
      make_config(epochs=2.0, eval_every=3.0),
      tmp_path / 'run',
      allow_resume_change=['epochs'],
    )


def test_rows_of_a_run_without_checkpoints_are_kept(whole, tmp_path, capfd):
  shutil.copytree(whole, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'checkpoints')
  rows = read_metrics(tmp_path / 'run')
  path = tmp_path / 'run' / 'metrics.jsonl'
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[:-1]))
  fit(toy_task, make_config(), tmp_path / 'run')
  assert 'step 31' in capfd.readouterr().err
  old = (tmp_path / 'run' / 'metrics.jsonl.old').read_text().splitlines()
  assert [json.loads(line) for line in old] == rows[:-1]
  assert_same_run(whole, tmp_path / 'run')


def test_rows_without_a_config_belong_to_nobody(whole, tmp_path):
  shutil.copy(whole / 'metrics.jsonl', tmp_path)
  with pytest.raises(ValueError, match=r'metrics.jsonl .*config.json'):
    fit(toy_task, make_config(seed=9), tmp_path)
