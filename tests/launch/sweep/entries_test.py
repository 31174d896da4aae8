import json
import shutil
import types

import pytest
from absl import flags
from absl.testing import flagsaver

from launch.sweep import entries
from launch.sweep.entries import entry_name, load_config_file, sweep_entries
from launch.train.resume import check_workdir
from launch.workdir.identity import is_location
from launch.workdir.lock import hold_lock
from launch.workdir.metrics import final_metrics
from tests.faults.trainer import ROOT
from tests.launch import toy_config

# ml_collections imports config files that way.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')


def configs_of(sweep, base_arg='', overrides=()):
  module = types.SimpleNamespace(get_config=toy_config.get_config, sweep=sweep)
  return sweep_entries(module, base_arg, dict(overrides))  # pyright: ignore


def test_entries_override_the_config():
  configs = configs_of(toy_config.sweep, overrides={'epochs': 3.0})
  assert list(configs) == [
    'seed=0,optimizer.lr=0.3',
    'seed=1,optimizer.lr=0.3',
    'adam',
  ]
  second = configs['seed=1,optimizer.lr=0.3']
  assert (second.seed, second.optimizer.lr, second.epochs) == (1, 0.3, 3.0)
  assert configs['adam'].optimizer.name == 'adam'


def test_a_field_of_an_entry_and_of_the_command_line_is_refused():
  """It would be ignored in silence."""
  with pytest.raises(ValueError, match='config.seed=9'):
    configs_of(toy_config.sweep, overrides={'epochs': 3.0, 'seed': 9})


def test_a_folder_is_a_run_or_a_sweep(tmp_path, monkeypatch):
  """A report would show only one of the two."""
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(ValueError, match='--workdir=.*is the folder of a run'):
    run_sweep(monkeypatch, tmp_path)
  (tmp_path / 'config.json').unlink()
  (tmp_path / 'sweep.json').write_text('{}')
  with pytest.raises(ValueError, match='is the folder of a sweep'):
    check_workdir(toy_config.get_config(), tmp_path)


def test_the_argument_is_appended_to_that_of_the_command_line():
  (config,) = configs_of(
    lambda add, arg: add(arg='adam'), base_arg='streamed'
  ).values()
  assert config.optimizer.name == 'adam' and not config.data.resident


@pytest.mark.parametrize(
  'entry, name',
  [
    ({'optimizer.lrr': 1.0}, 'optimizer.lrr'),
    ({'optimizer.lr': float('nan')}, 'config.optimizer.lr=nan'),
    ({'batch_size': 'many'}, 'batch_size'),
    ({'arg': 'nope'}, "'nope'"),
  ],
)
def test_an_invalid_entry_is_refused_before_training(entry, name):
  with pytest.raises(ValueError, match=name):
    configs_of(lambda add, arg: (add(), add(**entry)))


def test_equal_entries_are_refused():
  with pytest.raises(ValueError, match="'seed=1'"):
    configs_of(lambda add, arg: (add(seed=1), add(seed=1)))


def test_names_are_valid_for_folders():
  assert entry_name('method=none', {'seed': 1}) == 'method=none,seed=1'
  assert entry_name('', {'data.dir': '../a b'}) == 'data.dir=.._a_b'
  assert entry_name('', {}) == 'default'


def test_a_config_without_sweep_is_named(tmp_path):
  path = tmp_path / 'plain.py'
  path.write_text('def get_config(arg=None): pass')
  with pytest.raises(ValueError, match=r'plain.py.*sweep\(\)'):
    load_config_file(str(path))


def run_sweep(monkeypatch, workdir, *arguments):
  """Runs in this process what `python -m launch.sweep` runs."""
  argv = ['sweep', '--config=tests/launch/toy_config.py']
  argv += [f'--workdir={workdir}', '--config.epochs=2', *arguments]
  monkeypatch.setattr('sys.argv', argv)
  monkeypatch.chdir(ROOT)
  with flagsaver.flagsaver():
    flags.FLAGS(argv)
    entries.run_sweep([])


@pytest.mark.slow
def test_a_sweep_trains_every_entry_and_skips_finished_runs(
  tmp_path, monkeypatch, capsys
):
  run_sweep(monkeypatch, tmp_path)
  out = capsys.readouterr().out
  names = ['seed=0,optimizer.lr=0.3', 'seed=1,optimizer.lr=0.3', 'adam']
  for i, name in enumerate(names, 1):
    assert f'[{i}/3] {name}\n' in out
    assert f'\n{name}: test/accuracy' in out
    assert final_metrics(tmp_path / name)
  plan = json.loads((tmp_path / 'sweep.json').read_text())
  nothing = {'paper': {}, 'note': '', 'baseline': ''}
  assert plan == {'entries': names} | nothing
  shutil.rmtree(tmp_path / 'adam')
  run_sweep(monkeypatch, tmp_path)
  again = capsys.readouterr().out
  assert again.splitlines()[-3:] == out.splitlines()[-3:]


def test_an_entry_that_diverges_does_not_stop_the_others(
  tmp_path, monkeypatch, capsys
):
  arguments = ('--entries=seed=*', '--config.diverge_at=7')
  with pytest.raises(FloatingPointError, match='2 of 2 .*seed=0'):
    run_sweep(monkeypatch, tmp_path, *arguments)
  assert capsys.readouterr().out.count(': diverged: ') == 2


def test_selected_entries_are_trained_unless_another_process_does(
  tmp_path, monkeypatch, capsys
):
  held = tmp_path / 'seed=1,optimizer.lr=0.3'
  with hold_lock(held):
    run_sweep(monkeypatch, tmp_path, '--entries=seed=*')
  captured = capsys.readouterr()
  assert '[2/2] seed=1,optimizer.lr=0.3\n' in captured.out
  assert f'{held.name}: skipped: {held} ' in captured.out
  assert final_metrics(tmp_path / 'seed=0,optimizer.lr=0.3')
  assert {path.name for path in tmp_path.iterdir()} == {
    *('seed=0,optimizer.lr=0.3', held.name, 'sweep.json')
  }
  plan = json.loads((tmp_path / 'sweep.json').read_text())
  assert len(plan['entries']) == 3, 'the plan has all entries'
  with pytest.raises(ValueError, match='--entries=x .*adam'):
    run_sweep(monkeypatch, tmp_path, '--entries=x')


def test_an_entry_of_another_run_is_an_error(tmp_path, monkeypatch):
  folder = tmp_path / 'adam'
  folder.mkdir()
  (folder / 'config.json').write_text('{"seed": 3}')
  plan = '{"entries": ["adam"], "paper": {"adam": {"test/accuracy": 0.5}}}'
  (tmp_path / 'sweep.json').write_text(plan)
  with pytest.raises(ValueError, match='seed'):
    run_sweep(monkeypatch, tmp_path, '--entries=adam')
  assert (tmp_path / 'sweep.json').read_text() == plan, 'the plan was replaced'


def test_locations_of_examples_are_not_part_of_the_recipe():
  assert is_location('evals.corruption.source') and is_location('evals.dev.dir')
  assert not is_location('evals.fgsm.epsilon') and not is_location(
    'evals.dev.split'
  )


@pytest.mark.parametrize(
  'flags_given',
  [['--slurm=x', '--entries', 'y'], ['-slurm', 'x', '--entries=y'], []],
)
def test_the_command_of_an_entry_is_that_of_the_sweep(flags_given):
  argv = ['sweep.py', '--config=c.py:slurm', *flags_given, '--workdir', 'W']
  assert entries.entry_command(argv, 'a=1')[1:] == [
    *('-m', 'launch.sweep', '--config=c.py:slurm', '--workdir', 'W'),
    '--entries=a=1',
  ]


def test_the_paper_is_shown_only_for_its_own_recipe(tmp_path, monkeypatch):
  paper = {'adam': {'test/accuracy': 0.5}}
  monkeypatch.setattr(toy_config, 'PAPER', paper, raising=False)
  monkeypatch.setattr(entries, 'load_config_file', lambda path: toy_config)
  monkeypatch.setattr(entries, 'fit', lambda *args, **options: {})

  def run(name, *arguments):
    argv = ['sweep', '--config=tests/launch/toy_config.py', *arguments]
    argv.append(f'--workdir={tmp_path / name}')
    monkeypatch.setattr('sys.argv', argv)
    monkeypatch.chdir(ROOT)
    with flagsaver.flagsaver():
      flags.FLAGS(argv)
      entries.run_sweep([])
    return json.loads((tmp_path / name / 'sweep.json').read_text())['paper']

  assert run('a') == run('b', '--config.log_every=7') == paper
  assert run('c', '--config.epochs=2') == {}
  assert run('d', '--config=tests/launch/toy_config.py:streamed') == {}
