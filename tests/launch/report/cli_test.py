import json

import pytest

from launch.report import cli as report
from launch.report.curves import plot_curves
from launch.report.table_image import draw_table


def write_run(folder, accuracies, finished=True, **fields):
  folder.mkdir(parents=True)
  config = {'seed': 0, 'log_every': 10, 'optimizer': {'lr': 0.1}} | fields
  (folder / 'config.json').write_text(json.dumps(config))
  with (folder / 'metrics.jsonl').open('w') as file:
    for i, accuracy in enumerate(accuracies, 1):
      record = {'step': 10 * i, 'epoch': float(i)}
      print(json.dumps(record | {'train/loss': 1 / i}), file=file)
      record |= {'test/accuracy': accuracy, 'fgsm/error': 1 - accuracy}
      if finished and i == len(accuracies):
        record['final'] = True
      print(json.dumps(record), file=file)


# The one test of images asks for the real functions.
pytestmark = pytest.mark.usefixtures('no_images')


@pytest.fixture
def runs(tmp_path):
  write_run(tmp_path / 'a0', [0.1, 0.5], method='none', seed=0)
  write_run(tmp_path / 'a1', [0.2, 0.7], method='none', seed=1, log_every=99)
  write_run(tmp_path / 'a2', [0.3], method='none', seed=2, finished=False)
  write_run(tmp_path / 'deep' / 'b', [0.2, 0.8], method='cutmix')
  write_run(tmp_path / 'c', [], method='fmix', finished=False)
  return tmp_path


def test_the_numbers_of_the_table(runs, capsys):
  assert report.main([str(runs)]) == 0
  text = capsys.readouterr().out
  # The mean of .5 and .7 is .6, their sample standard deviation .1 * sqrt(2).
  assert text == (
    '| config | finished | test/accuracy (%) | fgsm/error (%) |\n'
    '| --- | ---: | ---: | ---: |\n'
    '| method=none | 2 of 3 | 60.00 ± 14.14 (2) | 40.00 ± 14.14 (2) |\n'
    '| method=fmix | 0 of 1 | – | – |\n'
    '| method=cutmix | 1 of 1 | 80.00 ± – (1) | 20.00 ± – (1) |\n'
  )
  assert (runs / 'report.md').read_text() == text


def test_images_are_drawn(runs, monkeypatch):
  pytest.importorskip('matplotlib')
  monkeypatch.setattr(report, 'draw_table', draw_table)
  monkeypatch.setattr(report, 'plot_curves', plot_curves)
  report.main([str(runs)])
  for name in ('table.png', 'curves.png'):
    assert (runs / name).read_bytes().startswith(b'\x89PNG')


def test_several_folders_make_one_table(tmp_path, capsys):
  write_run(tmp_path / 'x' / '0', [0.5], seed=0)
  write_run(tmp_path / 'y' / '1', [0.7], seed=1)
  report.main([str(tmp_path / 'x'), str(tmp_path / 'y')])
  assert '60.00 ± 14.14 (2)' in capsys.readouterr().out


def test_no_runs_is_an_error(capsys):
  assert report.main(['nowhere']) == 8
  assert capsys.readouterr().err == 'error: nowhere does not exist\n'


def test_columns_can_be_chosen(tmp_path, capsys):
  write_run(tmp_path / '0', [0.5], seed=0)
  assert report.main([str(tmp_path), '--columns', 'x*']) == 0
  assert '50' not in capsys.readouterr().out


def test_invalid_records_do_not_count(runs, capsys):
  with (runs / 'a0' / 'metrics.jsonl').open('a') as file:
    for line in (
      '{"step": 30, "epoch": 3, "x": "a", "final": true}',
      '[3]',
      '{',
    ):
      print(line, file=file)
  assert report.main([str(runs)]) == 0
  assert '60.00 ± 14.14 (2)' in capsys.readouterr().out


@pytest.mark.parametrize('file', ['config.json', 'metrics.jsonl'])
def test_an_unreadable_run_is_named_and_the_others_are_shown(
  runs, capsys, file
):
  (runs / 'a0' / file).unlink()
  if file == 'config.json':
    (runs / 'a0' / file).write_text('{"seed": NaN}')
  else:
    (runs / 'a0' / file).mkdir()
  assert report.main([str(runs)]) == 8
  captured = capsys.readouterr()
  (line,) = captured.err.splitlines()
  assert line.startswith('error: ') and str(runs / 'a0') in line
  assert '| method=none | 1 of 2 | 70.00 ± – (1) |' in captured.out
  assert '| method=cutmix | 1 of 1 |' in captured.out
  assert (runs / 'report.md').read_text() == captured.out


def test_without_a_readable_run_the_table_is_empty(tmp_path, capsys):
  (tmp_path / 'x').mkdir()
  (tmp_path / 'x' / 'config.json').write_text('[]')
  assert report.main([str(tmp_path)]) == 8
  assert capsys.readouterr().out.count('\n') == 2


def write_sweep(folder, paper, entries=('none', 'cutmix', 'fmix')):
  names = [f'method={x},seed={seed}' for x in entries for seed in range(2)]
  content = {'entries': names, 'paper': paper, 'note': 'Paper of 1999.'}
  content |= {'baseline': 'method=none'}
  (folder / 'sweep.json').write_text(json.dumps(content))


def test_all_entries_of_a_sweep_are_shown_beside_the_paper(tmp_path, capsys):
  paper = {
    'method=none': {'test/accuracy': 0.5},
    'method=fmix': {'test/accuracy': 0.75},
  }
  write_sweep(tmp_path, paper)
  for seed, accuracy in enumerate((0.5, 0.7)):
    folder = tmp_path / f'method=none,seed={seed}'
    write_run(folder, [accuracy], method='none', seed=seed)
  write_run(tmp_path / 'method=cutmix,seed=0', [0.9], method='cutmix')
  assert report.main([str(tmp_path), '--columns=test/*']) == 0
  assert capsys.readouterr().out == (
    '| config | finished | test/accuracy (%) | paper | difference |\n'
    '| --- | ---: | ---: | ---: | ---: |\n'
    '| method=none | 2 of 2 | 60.00 ± 14.14 (2) | 50.00 | +10.00 |\n'
    '| method=cutmix | 1 of 2 | 90.00 ± – (1) | – | – |\n'
    '| method=fmix | 0 of 2 | – | 75.00 | – |\n'
    '\nPaper of 1999.\n'
  )


@pytest.mark.parametrize(
  'text',
  [
    *('{', '[]', '{"entries": 3, "paper": {}}', '{"entries": [], "paper": []}'),
    '{"entries": [], "paper": {}, "note": 3}',
    '{"entries": [], "paper": {}, "baseline": null}',
  ],
)
def test_an_invalid_sweep_is_named(runs, capsys, text):
  (runs / 'sweep.json').write_text(text)
  assert report.main([str(runs)]) == 8
  assert str(runs / 'sweep.json') in capsys.readouterr().err


def test_a_note_of_two_folders_is_shown_once(tmp_path, capsys):
  for seed, half in enumerate('ab'):
    folder = tmp_path / half / f'method=none,seed={seed}'
    write_run(folder, [0.5], method='none', seed=seed)
    write_sweep(folder.parent, {}, ['none'])
  assert report.main([str(tmp_path)]) == 0
  out = capsys.readouterr().out
  assert '| method=none | 2 of 2 |' in out
  assert out.count('Paper of 1999.') == 1


def test_the_paper_is_shown_before_a_run_has_finished(tmp_path, capsys):
  write_sweep(tmp_path, {'method=none': {'test/accuracy': 0.5}}, ['none'])
  folder = tmp_path / 'method=none,seed=0'
  write_run(folder, [0.5], method='none', finished=False)
  assert report.main([str(tmp_path)]) == 0
  row = capsys.readouterr().out.splitlines()[2]
  assert row == '| method=none | 0 of 2 | – | 50.00 | – |'


def test_a_sweep_of_seeds_is_one_line(tmp_path, capsys):
  content = {'entries': ['seed=0', 'seed=1'], 'paper': {}}
  (tmp_path / 'sweep.json').write_text(json.dumps(content))
  write_run(tmp_path / 'seed=0', [0.5], seed=0)
  assert report.main([str(tmp_path), '--columns=test/*']) == 0
  lines = capsys.readouterr().out.splitlines()[2:]
  assert lines == ['| all seeds | 1 of 2 | 50.00 ± – (1) |']
