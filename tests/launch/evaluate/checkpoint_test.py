import subprocess
import sys
import types
from typing import Any

import pytest

from launch.evaluate.checkpoint import evaluate_saved
from launch.report import cli as report
from launch.train.loop import fit
from launch.workdir.evaluations import Evaluation, read_evaluations
from launch.workdir.metrics import final_metrics, read_metrics
from tests.faults import trainer
from tests.launch import toy_task
from tests.launch.train.loop_test import make_config


def evaluate_otherwise(config, mesh):
  evaluators = toy_task.make_evaluators(config, mesh)
  return {'again': next(iter(evaluators.values()))}


OTHER: Any = types.SimpleNamespace(
  **vars(toy_task) | {'make_evaluators': evaluate_otherwise}
)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('saved') / 'run'
  config = make_config(epochs=1.0, **{'optimizer.warmup_epochs': 0.0})
  fit(toy_task, config, workdir)
  return config, workdir


@pytest.mark.slow
def test_a_checkpoint_gives_the_final_metrics_of_the_run(finished, capsys):
  config, workdir = finished
  before = (workdir / 'metrics.jsonl').read_bytes()
  ended = final_metrics(workdir)
  assert ended is not None
  found = evaluate_saved(OTHER, config, workdir)
  (name,) = {metric.partition('/')[0] for metric in ended}
  expected = {k.replace(name, 'again', 1): v for k, v in ended.items()}
  assert found == expected, 'another state was evaluated'
  assert (workdir / 'metrics.jsonl').read_bytes() == before
  evaluate_saved(OTHER, config, workdir)
  last = read_metrics(workdir)[-1]
  metrics = {k.partition('/')[2]: v for k, v in expected.items()}
  assert read_evaluations(workdir) == 2 * [
    Evaluation(last['step'], last['epoch'], 'again', {}, metrics)
  ]
  assert not list(workdir.glob('*.lock')), 'a lock is left'
  capsys.readouterr()
  assert report.main([str(workdir.parent)]) == 0
  assert 'again/' in capsys.readouterr().out, 'the report does not show it'


def test_only_the_evaluators_may_differ(finished):
  _, workdir = finished
  other = make_config(epochs=1.0, **{'optimizer.warmup_epochs': 0.0, 'seed': 3})
  with pytest.raises(ValueError, match='seed: 0'):
    evaluate_saved(toy_task, other, workdir)


def test_a_missing_run_or_checkpoint_is_named(finished, tmp_path):
  config, workdir = finished
  with pytest.raises(FileNotFoundError, match=r'config\.json'):
    evaluate_saved(toy_task, config, tmp_path)
  (tmp_path / 'config.json').write_bytes((workdir / 'config.json').read_bytes())
  with pytest.raises(FileNotFoundError, match='checkpoint'):
    evaluate_saved(toy_task, config, tmp_path)


@pytest.mark.slow
def test_the_program(tmp_path):
  assert trainer.train(tmp_path / 'w', {'epochs': 2.0}).code == 0
  command = [sys.executable, '-m', 'launch.evaluate', f'--config={trainer.TOY}']
  command += ['--config.epochs=2.0', f'--workdir={tmp_path / "w"}']
  done = subprocess.run(
    command, cwd=trainer.ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  final = final_metrics(tmp_path / 'w')
  assert final and f'{next(iter(final))} ' in done.stdout
  done = subprocess.run(
    [*command, '--config.epochs=3.0'],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 8 and 'epochs: 2.0' in done.stderr
