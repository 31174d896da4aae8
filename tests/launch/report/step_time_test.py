import json

import pytest

from launch.report import cli as report
from tests.launch.report.cli_test import write_run

pytestmark = pytest.mark.usefixtures('no_images')

NONE, FMIX = {'method': 'none'}, {'method': 'fmix'}


def write_sweep(folder, entries, baseline='method=none'):
  plan = {'entries': entries, 'paper': {}, 'note': '', 'baseline': baseline}
  (folder / 'sweep.json').write_text(json.dumps(plan))


def timed(folder, times, devices=('gpu',), **fields):
  """Writes a finished run with these step times, started on these devices."""
  write_run(folder, [0.5], **fields)
  with (folder / 'metrics.jsonl').open('a') as file:
    for time in times:
      record = {'step': 5, 'epoch': 0.5, 'time/step_ms': time}
      print(json.dumps(record), file=file)
  starts = [{'devices': [device]} for device in devices]
  if starts:
    (folder / 'env.json').write_text(json.dumps(starts))


def cost(capsys, folder, flag='--cost'):
  """Returns the lines after the header of the table, or those of stderr."""
  code = report.main([str(folder), '--columns=-', flag])
  captured = capsys.readouterr()
  return (captured.out if code == 0 else captured.err).splitlines()[
    2 if code == 0 else 0 :
  ]


def test_the_relative_step_time_is_a_ratio_of_medians(tmp_path, capsys):
  timed(tmp_path / 'method=none,seed=0', (2, 4, 9), **NONE)
  timed(tmp_path / 'method=fmix,seed=0', (5, 6, 70), **FMIX)
  write_sweep(tmp_path, ['method=fmix,seed=0', 'method=none,seed=0'])
  expected = [
    '| method=fmix | 1 of 1 | 1.5 ± – (1) |',
    '| method=none | 1 of 1 | 1 ± – (1) |',
    '',
    'relative step time: median, divided by that of method=none, on 1 × gpu',
  ]
  assert cost(capsys, tmp_path) == expected
  header = (tmp_path / 'report.md').read_text().splitlines()[0]
  assert header == '| config | finished | relative step time |'
  assert cost(capsys, tmp_path, '--cost=method=none') == expected
  assert cost(capsys, tmp_path, '--cost=method=fmix')[1:2] == [
    '| method=none | 1 of 1 | 0.6667 ± – (1) |'
  ]
  (line,) = cost(capsys, tmp_path, '--cost=method=mixup')
  assert '--cost=method=mixup' in line
  assert line.endswith('method=fmix, method=none')


def test_each_entry_has_the_baseline_of_its_own_network(tmp_path, capsys):
  for width, slow in ((1, 1), (2, 10)):
    for method, time, fields in (('none', 2, NONE), ('fmix', 3, FMIX)):
      folder = tmp_path / f'width={width},method={method}'
      timed(folder, [slow * time], model={'width': width}, **fields)
  methods = ('method=fmix', 'method=none')
  write_sweep(tmp_path, [f'width={w},{m}' for w in (1, 2) for m in methods])
  lines = cost(capsys, tmp_path)
  assert [line.split(' | ')[-1] for line in lines[:4]] == [
    *('1.5 ± – (1) |', '1 ± – (1) |'),
    *('1.5 ± – (1) |', '1 ± – (1) |'),
  ]


def test_without_a_baseline_there_is_no_relative_step_time(tmp_path, capsys):
  timed(tmp_path / 'method=fmix,seed=0', [3], **FMIX)
  entries = ['method=fmix,seed=0', 'method=none,seed=0', 'alone']
  write_sweep(tmp_path, entries)
  assert 'method=fmix: method=none' in cost(capsys, tmp_path)[-1]
  timed(tmp_path / 'method=none,seed=0', [2], **NONE)
  timed(tmp_path / 'alone', [2], seed=3)
  lines = cost(capsys, tmp_path)
  assert lines[0] == '| method=fmix | 1 of 1 | 1.5 ± – (1) |'
  assert lines[-1].startswith('no relative step time of alone: ')
  write_sweep(tmp_path, entries, '')
  assert any(
    'no relative step time of method=fmix: ' in x
    for x in cost(capsys, tmp_path)
  )


def test_without_any_step_times_there_is_a_note(tmp_path, capsys):
  timed(tmp_path / 'method=none,seed=0', [], **NONE)
  assert cost(capsys, tmp_path)[-1].startswith('no relative step time')
  (line,) = cost(capsys, tmp_path, '--cost=foo')
  assert line == 'error: --cost=foo: no run has step times'


def test_times_of_two_types_of_machines_are_not_compared(tmp_path, capsys):
  timed(tmp_path / 'method=none,seed=0', [2], ['h100'], **NONE)
  timed(tmp_path / 'method=fmix,seed=0', [3], ['h100'], **FMIX)
  timed(tmp_path / 'method=fmix,seed=1', [9], ['a100'], seed=1, **FMIX)
  moved = tmp_path / 'method=fmix,seed=2'
  timed(moved, [9], ['h100', 'a100'], seed=2, **FMIX)
  write_sweep(tmp_path, ['method=fmix,seed=0', 'method=none,seed=0'])
  lines = cost(capsys, tmp_path)
  assert lines[0] == '| method=fmix | 3 of 3 | 1.5 ± – (1) |'
  assert [
    line for line in lines if line.startswith('no relative step time')
  ] == [
    'no relative step time of method=fmix on 1 × a100: '
    'method=none was measured on 1 × h100',
    'no relative step time of method=fmix on 1 × h100 and 1 × a100 '
    f'({moved}): method=none was measured on 1 × h100',
  ]
  assert (tmp_path / 'report.md').read_text().count(
    'no relative step time'
  ) == 2


def test_without_any_pair_the_table_has_no_relative_step_times(
  tmp_path, capsys
):
  timed(tmp_path / 'method=fmix,seed=0', [3], ['a100'], **FMIX)
  timed(tmp_path / 'method=none,seed=0', [2], ['h100'], **NONE)
  write_sweep(tmp_path, ['method=fmix,seed=0', 'method=none,seed=0'])
  assert cost(capsys, tmp_path)[0] == '| method=fmix | 1 of 1 | – |'
  last = cost(capsys, tmp_path / 'method=fmix,seed=0')[-1]
  assert last.startswith('no relative step time of method=fmix: ')


def test_an_unrecorded_machine_is_not_compared(tmp_path, capsys):
  for seed, devices in enumerate(
    [(), ('cpu',)]
  ):  # without the model of the CPU
    timed(
      tmp_path / f'method=none,seed={seed}', [2], devices, seed=seed, **NONE
    )
    timed(
      tmp_path / f'method=fmix,seed={seed}', [3], devices, seed=seed, **FMIX
    )
  write_sweep(tmp_path, ['method=none,seed=0', 'method=fmix,seed=0'])
  lines = cost(capsys, tmp_path)
  assert lines[1] == '| method=fmix | 2 of 2 |'
  notes = [line for line in lines if line.startswith('no relative step time')]
  assert [note.split(': ')[0] for note in notes] == [
    f'no relative step time of method={method}' for method in ('none', 'fmix')
  ]
