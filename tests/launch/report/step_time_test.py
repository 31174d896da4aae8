import json

import pytest

from launch.report import __main__ as report
from launch.workdir import env
from tests.launch.report.main_test import write_run

NONE, FMIX = {'method': 'none'}, {'method': 'fmix'}


def write_sweep(folder, rows, baseline='method=none'):
  about = {'rows': rows, 'paper': {}, 'note': '', 'baseline': baseline}
  (folder / 'sweep.json').write_text(json.dumps(about))


def timed(folder, times, devices=('gpu',), **fields):
  """A finished run with these times of a step, and where it was started."""
  write_run(folder, [0.5], **fields)
  with (folder / 'metrics.jsonl').open('a') as file:
    for time in times:
      row = {'step': 5, 'epoch': 0.5, 'train/loss': 1, 'time/step_ms': time}
      print(json.dumps(row), file=file)
  starts = [{'devices': [device]} for device in devices]
  if starts:
    (folder / 'env.json').write_text(json.dumps(starts))


def cost(capsys, folder, flag='--cost'):
  """The lines of the table and below it, or what was said on stderr."""
  code = report.main([str(folder), '--columns=-', flag])
  captured = capsys.readouterr()
  return (captured.out if code == 0 else captured.err).splitlines()[
    2 if code == 0 else 0 :
  ]


def test_the_cost_is_a_ratio_of_measured_times(tmp_path, capsys):
  timed(tmp_path / 'method=none,seed=0', (2, 4, 9), **NONE)
  timed(tmp_path / 'method=fmix,seed=0', (5, 6, 70), **FMIX)
  write_sweep(tmp_path, ['method=fmix,seed=0', 'method=none,seed=0'])
  expected = [
    '| method=fmix | 1 of 1 | 1.5 ± – (1) |',
    '| method=none | 1 of 1 | 1 ± – (1) |',
    '',
    'cost: median time of a step over that of method=none, measured on 1 × gpu',
  ]
  assert cost(capsys, tmp_path) == expected
  assert cost(capsys, tmp_path, '--cost=method=none') == expected
  assert cost(capsys, tmp_path, '--cost=method=fmix')[1:2] == [
    '| method=none | 1 of 1 | 0.6667 ± – (1) |'
  ]
  (line,) = cost(capsys, tmp_path, '--cost=method=mixup')
  assert '--cost=method=mixup: there is no such row with times' in line
  assert line.endswith('method=fmix, method=none')


def test_each_row_has_the_baseline_of_its_own_network(tmp_path, capsys):
  for width, slow in ((1, 1), (2, 10)):
    for method, time, fields in (('none', 2, NONE), ('fmix', 3, FMIX)):
      folder = tmp_path / f'width={width},method={method}'
      timed(folder, [slow * time], model={'width': width}, **fields)
  methods = ('method=fmix', 'method=none')
  write_sweep(tmp_path, [f'width={w},{m}' for w in (1, 2) for m in methods])
  rows = cost(capsys, tmp_path)
  assert [row.split(' | ')[-1] for row in rows[:4]] == [
    *('1.5 ± – (1) |', '1 ± – (1) |'),
    *('1.5 ± – (1) |', '1 ± – (1) |'),
  ]


def test_a_row_without_a_baseline_has_no_cost(tmp_path, capsys):
  timed(tmp_path / 'method=fmix,seed=0', [3], **FMIX)
  rows = ['method=fmix,seed=0', 'method=none,seed=0', 'alone']
  write_sweep(tmp_path, rows)
  refused = 'no cost of method=fmix: method=none has no times'
  assert cost(capsys, tmp_path)[-1] == refused
  timed(tmp_path / 'method=none,seed=0', [2], **NONE)
  timed(tmp_path / 'alone', [2], seed=3)
  lines = cost(capsys, tmp_path)
  assert lines[0] == '| method=fmix | 1 of 1 | 1.5 ± – (1) |'
  assert lines[-1] == 'no cost of alone: it has no baseline'
  write_sweep(tmp_path, rows, '')
  assert 'no cost of method=fmix: it has no baseline' in cost(capsys, tmp_path)


def test_without_any_time_it_is_said(tmp_path, capsys):
  timed(tmp_path / 'method=none,seed=0', [], **NONE)
  assert cost(capsys, tmp_path)[-1] == 'no cost: no run has measured a step'


def test_times_of_two_kinds_of_machines_are_not_compared(tmp_path, capsys):
  timed(tmp_path / 'method=none,seed=0', [2], ['h100'], **NONE)
  timed(tmp_path / 'method=fmix,seed=0', [3], ['h100'], **FMIX)
  timed(tmp_path / 'method=fmix,seed=1', [9], ['a100'], seed=1, **FMIX)
  moved = tmp_path / 'method=fmix,seed=2'
  timed(moved, [9], ['h100', 'a100'], seed=2, **FMIX)
  write_sweep(tmp_path, ['method=fmix,seed=0', 'method=none,seed=0'])
  lines = cost(capsys, tmp_path)
  assert lines[0] == '| method=fmix | 3 of 3 | 1.5 ± – (1) |'
  assert [line for line in lines if line.startswith('no cost')] == [
    'no cost of method=fmix on 1 × a100: method=none was measured on 1 × h100',
    f'no cost of method=fmix on 1 × h100 and 1 × a100 ({moved}): '
    'method=none was measured on 1 × h100',
  ]
  assert (tmp_path / 'report.md').read_text().count('no cost') == 2


def test_without_any_pair_there_is_a_table_without_costs(tmp_path, capsys):
  timed(tmp_path / 'method=fmix,seed=0', [3], ['a100'], **FMIX)
  timed(tmp_path / 'method=none,seed=0', [2], ['h100'], **NONE)
  write_sweep(tmp_path, ['method=fmix,seed=0', 'method=none,seed=0'])
  # The baseline itself has one: 1.
  assert cost(capsys, tmp_path)[0] == '| method=fmix | 1 of 1 | – |'
  assert cost(capsys, tmp_path / 'method=fmix,seed=0')[-1] == (
    'no cost of method=fmix: method=none has no times'
  )


def test_a_machine_that_is_not_recorded_is_no_other(tmp_path, capsys):
  for seed, devices in enumerate([(), ('cpu',)]):  # and no model of the CPU
    timed(
      tmp_path / f'method=none,seed={seed}', [2], devices, seed=seed, **NONE
    )
    timed(
      tmp_path / f'method=fmix,seed={seed}', [3], devices, seed=seed, **FMIX
    )
  write_sweep(tmp_path, ['method=none,seed=0', 'method=fmix,seed=0'])
  lines = cost(capsys, tmp_path)
  assert lines[1] == '| method=fmix | 2 of 2 |'
  assert [line for line in lines if line.startswith('no cost')] == [
    f'no cost of method={method}: its machine is not recorded'
    for method in ('none', 'fmix')
  ]


def test_a_start_is_recorded_with_what_tells_machines_apart(tmp_path):
  env.record_start(tmp_path, 0)
  (start,) = json.loads((tmp_path / 'env.json').read_text())
  assert start['cpu'] and start['cores'] >= 1
  (found,) = env.machines(tmp_path)
  assert found.endswith(f' × cpu ({start["cpu"]}, {start["cores"]} cores)')
  start['devices'] = ['H100', 'H100']
  (tmp_path / 'env.json').write_text(json.dumps([start, start]))
  assert env.machines(tmp_path) == ['2 × H100']
  del start['cpu']
  start['devices'] = ['cpu']  # from before that was recorded
  (tmp_path / 'env.json').write_text(json.dumps([start]))
  assert env.machines(tmp_path) == []


@pytest.mark.parametrize('text', ['{', '[3]', '[{}]', '{"devices": 1}'])
def test_a_broken_record_names_no_machine(tmp_path, text):
  (tmp_path / 'env.json').write_text(text)
  assert env.machines(tmp_path) == []
