import json
import shutil
import types

import pytest
from absl import flags
from absl.testing import flagsaver

from launch.sweep import entries as table
from launch.sweep.entries import load_config_file, row_name, sweep_rows
from launch.workdir.identity import is_location
from launch.workdir.lock import hold_lock
from launch.workdir.metrics import final_metrics
from tests.faults.trainer import ROOT
from tests.launch import toy_config

# ml_collections imports config files that way.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')


def rows(sweep, base_arg='', overrides=()):
  module = types.SimpleNamespace(get_config=toy_config.get_config, sweep=sweep)
  return sweep_rows(module, base_arg, dict(overrides))  # pyright: ignore


def test_rows_override_the_config_and_the_command_line():
  configs = rows(toy_config.sweep, overrides={'epochs': 3.0, 'seed': 9})
  assert list(configs) == [
    'seed=0,optimizer.lr=0.3',
    'seed=1,optimizer.lr=0.3',
    'adam',
  ]
  second = configs['seed=1,optimizer.lr=0.3']
  assert (second.seed, second.optimizer.lr, second.epochs) == (1, 0.3, 3.0)
  assert configs['adam'].optimizer.name == 'adam'
  assert configs['adam'].seed == 9


def test_the_argument_joins_that_of_the_command_line():
  (config,) = rows(
    lambda add, arg: add(arg='adam'), base_arg='streamed'
  ).values()
  assert config.optimizer.name == 'adam' and not config.data.resident


@pytest.mark.parametrize(
  'row, message',
  [
    ({'optimizer.lrr': 1.0}, "'optimizer.lrr=1.0': the config has no opt"),
    ({'optimizer.lr': float('nan')}, 'config.optimizer.lr=nan must be'),
    ({'batch_size': 'many'}, 'batch_size'),
    ({'arg': 'nope'}, "unknown config argument 'nope'"),
  ],
)
def test_a_bad_row_stops_the_sweep_before_it_begins(row, message):
  with pytest.raises(ValueError, match=message):
    rows(lambda add, arg: (add(), add(**row)))


def test_equal_rows_are_refused():
  with pytest.raises(ValueError, match="two rows are called 'seed=1'"):
    rows(lambda add, arg: (add(seed=1), add(seed=1)))


def test_names_are_fit_for_folders():
  assert row_name('method=none', {'seed': 1}) == 'method=none,seed=1'
  assert row_name('', {'data.dir': '../a b'}) == 'data.dir=.._a_b'
  assert row_name('', {}) == 'default'


def test_a_config_without_sweep_is_named(tmp_path):
  path = tmp_path / 'plain.py'
  path.write_text('def get_config(arg=None): pass')
  with pytest.raises(ValueError, match=r'plain.py: the file has no sweep\(\)'):
    load_config_file(str(path))


def run_sweep(monkeypatch, workdir, *arguments):
  """Does in this process what `python -m launch.sweep` does."""
  argv = ['sweep', '--config=tests/launch/toy_config.py']
  argv += [f'--workdir={workdir}', '--config.epochs=2', *arguments]
  monkeypatch.setattr('sys.argv', argv)
  monkeypatch.chdir(ROOT)
  with flagsaver.flagsaver():
    flags.FLAGS(argv)
    table.run_sweep([])


def test_a_sweep_runs_every_row_and_skips_what_is_finished(
  tmp_path, monkeypatch, capsys
):
  run_sweep(monkeypatch, tmp_path)
  out = capsys.readouterr().out
  names = ['seed=0,optimizer.lr=0.3', 'seed=1,optimizer.lr=0.3', 'adam']
  for i, name in enumerate(names, 1):
    assert f'[{i}/3] {name}\n' in out
    assert f'\n{name}: test/accuracy' in out
    assert final_metrics(tmp_path / name)
  about = json.loads((tmp_path / 'sweep.json').read_text())
  nothing = {'paper': {}, 'note': '', 'baseline': ''}
  assert about == {'rows': names} | nothing
  shutil.rmtree(tmp_path / 'adam')
  run_sweep(monkeypatch, tmp_path)
  again = capsys.readouterr().out
  assert again.count('finished before') == 2
  assert again.splitlines()[-3:] == out.splitlines()[-3:]


def test_a_row_that_diverges_does_not_stop_the_others(
  tmp_path, monkeypatch, capsys
):
  with pytest.raises(FloatingPointError, match='3 of 3 rows diverged: seed=0'):
    run_sweep(monkeypatch, tmp_path, '--config.diverge_at=7')
  out = capsys.readouterr().out
  assert out.count(': diverged: the loss of step 7 is not finite') == 3


def test_some_rows_are_run_and_those_of_others_passed_over(
  tmp_path, monkeypatch, capsys
):
  held = tmp_path / 'seed=1,optimizer.lr=0.3'
  with hold_lock(held):
    run_sweep(monkeypatch, tmp_path, '--rows=seed=*')
  captured = capsys.readouterr()
  assert '[2/2] seed=1,optimizer.lr=0.3\n' in captured.out
  assert f'{held.name}: passed over: {held} is in use: process' in captured.out
  assert final_metrics(tmp_path / 'seed=0,optimizer.lr=0.3')
  assert {path.name for path in tmp_path.iterdir()} == {
    *('seed=0,optimizer.lr=0.3', held.name, 'sweep.json')
  }
  about = json.loads((tmp_path / 'sweep.json').read_text())
  assert len(about['rows']) == 3, 'the table has all rows'
  with pytest.raises(ValueError, match='--rows=x is the name of no row.*adam'):
    run_sweep(monkeypatch, tmp_path, '--rows=x')


def test_a_row_that_fails_otherwise_is_an_error(tmp_path, monkeypatch):
  folder = tmp_path / 'adam'
  folder.mkdir()
  (folder / 'config.json').write_text('{"seed": 3}')
  about = '{"rows": ["adam"], "paper": {"adam": {"test/accuracy": 0.5}}}'
  (tmp_path / 'sweep.json').write_text(about)
  with pytest.raises(ValueError, match='holds a run with another config'):
    run_sweep(monkeypatch, tmp_path, '--rows=adam')
  assert (tmp_path / 'sweep.json').read_text() == about, 'a table was replaced'


def test_places_of_examples_leave_the_recipe_as_it_is():
  assert is_location('evals.corruption.source') and is_location('evals.dev.dir')
  assert not is_location('evals.fgsm.epsilon') and not is_location(
    'evals.dev.split'
  )


@pytest.mark.parametrize(
  'flags_given', [['--slurm=x', '--rows', 'y'], ['-slurm', 'x', '--rows=y'], []]
)
def test_the_command_of_a_row_is_that_of_the_sweep(flags_given):
  argv = ['sweep.py', '--config=c.py:slurm', *flags_given, '--workdir', 'W']
  assert table.command_of_row(argv, 'a=1')[1:] == [
    *('-m', 'launch.sweep', '--config=c.py:slurm', '--workdir', 'W'),
    '--rows=a=1',
  ]


def test_the_paper_stands_beside_its_own_recipe_alone(tmp_path, monkeypatch):
  paper = {'adam': {'test/accuracy': 0.5}}
  monkeypatch.setattr(toy_config, 'PAPER', paper, raising=False)
  monkeypatch.setattr(table, 'load_config_file', lambda path: toy_config)
  monkeypatch.setattr(table, 'fit', lambda *args, **options: {})

  def run(name, *arguments):
    argv = ['sweep', '--config=tests/launch/toy_config.py', *arguments]
    argv.append(f'--workdir={tmp_path / name}')
    monkeypatch.setattr('sys.argv', argv)
    monkeypatch.chdir(ROOT)
    with flagsaver.flagsaver():
      flags.FLAGS(argv)
      table.run_sweep([])
    return json.loads((tmp_path / name / 'sweep.json').read_text())['paper']

  assert run('a') == run('b', '--config.log_every=7') == paper
  assert run('c', '--config.epochs=2') == {}, 'another recipe beside the paper'
  assert run('d', '--config=tests/launch/toy_config.py:streamed') == {}
