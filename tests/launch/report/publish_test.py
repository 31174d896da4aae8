import json

import pytest

from launch.report import cli as report
from launch.report.publish import public_command
from launch.workdir.evaluations import Evaluation, add_evaluations
from tests.launch.report.cli_test import write_run, write_sweep

pytestmark = pytest.mark.usefixtures('no_images')

COMMAND = (
  '/secret/x/bin/python -m launch.sweep --config=/secret/configs/a.py:small '
  '--config.data.source=/secret/data --workdir /secret/w --config.seed=1'
)


@pytest.fixture
def runs(tmp_path):
  """A sweep with three finished runs, an unfinished one and evaluations."""
  folder = tmp_path / 'w'
  paper = {'method=none': {'fgsm/error': 0.5}}
  folder.mkdir()
  write_sweep(folder, paper, entries=('none', 'cutmix'))
  evals = {'fgsm': {'epsilon': 0.5, 'source': '/secret/data/C'}}
  data = {'source': '/secret/data', 'dir': '/secret/tfds', 'name': 'digits'}
  for method in ('none', 'cutmix'):
    for seed in (0, 1):
      run = folder / f'method={method},seed={seed}'
      finished = (method, seed) != ('cutmix', 1)
      fields = {'mix': {'candidates': [method.replace('none', 'identity')]}}
      write_run(
        run,
        [0.25 + seed / 8],
        finished,
        data=data,
        evals=evals,
        seed=seed,
        **fields,
      )
      record = {'step': 5, 'epoch': 0.5, 'train/loss': 1, 'time/step_ms': 2.0}
      path = run / 'metrics.jsonl'
      path.write_text(json.dumps(record) + '\n' + path.read_text())
      start = {'command': COMMAND, 'devices': ['gpu'], 'host': 'secret-1'}
      (run / 'env.json').write_text(json.dumps([start]))
      (run / 'checkpoints').mkdir()
      options = evals['fgsm']
      found = [
        Evaluation(10, 1.0, 'fgsm', options | {'source': source}, {'error': x})
        for source, x in (
          *(('/secret/other/D', 0.75), ('', 0.5)),
          ('/secret/elsewhere/C', 0.25),
        )
      ]
      add_evaluations(run, found)
  return folder


def test_the_copy_gives_the_same_table_and_names_no_machine(
  runs, tmp_path, capsys
):
  kept = tmp_path / 'kept'
  assert report.main([str(runs), '--cost', f'--keep={kept}']) == 0
  shown = capsys.readouterr()
  assert str(kept) in shown.err and '3 of 4' in shown.err
  files = [path for path in kept.rglob('*') if path.is_file()]
  names = {'config.json', 'env.json', 'metrics.jsonl', 'evaluations.jsonl'}
  assert {path.name for path in files} == names | {'sweep.json'}
  assert len(files) == 3 * 4 + 1
  for path in files:
    assert 'secret' not in path.read_text(), path
  assert report.main([str(kept), '--cost']) == 0
  again = capsys.readouterr().out
  assert again == shown.out
  for name in ('fgsm/error', 'fgsm(source=D)/error', 'fgsm(source=)/error'):
    assert f' {name} (%) ' in again
  assert '| 2 of 2 |' in again and '| 1 of 2 |' in again


def test_a_copy_is_completed_and_gains_evaluations(runs, tmp_path):
  keep = f'--keep={tmp_path / "kept"}'
  assert report.main([str(runs), keep]) == 0
  run = tmp_path / 'kept' / 'method=none,seed=0'
  (run / 'metrics.jsonl').unlink()
  before = (run / 'evaluations.jsonl').read_text()
  found = Evaluation(10, 1.0, 'x', {}, {'y': 0.5})
  add_evaluations(runs / run.name, [found])
  assert report.main([str(runs), keep]) == 0
  assert (run / 'metrics.jsonl').exists()
  after = (run / 'evaluations.jsonl').read_text()
  assert after.startswith(before) and after.count('\n') == 4


@pytest.mark.parametrize(
  'file, old, new',
  [
    ('config.json', '"lr": 0.1', '"lr": 0.2'),
    ('metrics.jsonl', '0.25', '0.375'),
    ('evaluations.jsonl', '0.75', '0.5'),
  ],
)
def test_a_different_run_is_not_replaced(
  runs, tmp_path, capsys, file, old, new
):
  kept = tmp_path / 'kept'
  assert report.main([str(runs), f'--keep={kept}']) == 0
  path = runs / 'method=none,seed=0' / file
  path.write_text(path.read_text().replace(old, new))
  before = {p: p.read_bytes() for p in kept.rglob('*') if p.is_file()}
  capsys.readouterr()
  assert report.main([str(runs), f'--keep={kept}']) == 8
  assert str(kept / path.parent.name / file) in capsys.readouterr().err
  after = {p: p.read_bytes() for p in kept.rglob('*') if p.is_file()}
  assert before == after, 'something was written'


def test_a_different_sweep_is_not_replaced(runs, tmp_path, capsys):
  kept = tmp_path / 'kept'
  assert report.main([str(runs), f'--keep={kept}']) == 0
  write_sweep(runs, {}, entries=('none',))
  assert report.main([str(runs), f'--keep={kept}']) == 8
  assert str(kept / 'sweep.json') in capsys.readouterr().err


@pytest.mark.parametrize('place', ['.', 'kept', '../w/x'])
def test_copies_may_not_be_among_the_runs(runs, capsys, place):
  assert report.main([str(runs), f'--keep={runs / place}']) == 8
  assert f'--keep={runs / place}' in capsys.readouterr().err


def test_a_published_command_has_no_paths():
  assert public_command(COMMAND) == (
    'python -m launch.sweep --config=a.py:small --config.seed=1'
  )
  for place in './home/me/C', 'file:///home/me/C', '../me/C', '~/me/C', '/me/C':
    assert public_command(f'a --config.evals.x.source={place}') == (
      'a --config.evals.x.source=C'
    )
