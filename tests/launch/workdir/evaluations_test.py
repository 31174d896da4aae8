import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch.report import cli as report
from launch.workdir.evaluations import (
  Evaluation,
  add_evaluations,
  by_evaluator,
  label,
  read_evaluations,
  with_evaluations,
)
from tests.launch.report.cli_test import write_run

OWN = {'fgsm': {'epsilon': 0.5, 'batch_size': 8, 'norms': [1, 2]}}


def evaluation(metrics, name='fgsm', step=10, **options):
  return Evaluation(step, 1.0, name, OWN.get(name, {}) | options, metrics)


def add(workdir, number):
  for i in range(5):
    add_evaluations(workdir, [evaluation({'error': float(i)}, step=number)])


def test_concurrent_writers_lose_no_line(tmp_path):
  # A lock belongs to an open file: threads behave like processes.
  with ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda number: add(tmp_path, number), range(3)))
  found = read_evaluations(tmp_path)
  for number in range(3):
    mine = [x.metrics['error'] for x in found if x.step == number]
    assert mine == [0, 1, 2, 3, 4]
  assert len(found) == 15 and len(list(tmp_path.iterdir())) == 1


def test_invalid_lines_are_skipped_and_stay_in_the_file(tmp_path):
  path = tmp_path / 'evaluations.jsonl'
  # The second is of an older version, the last was cut short by a crash.
  old = '[]\n{"step": 10, "epoch": 0, "fgsm/top1": 0.5}\n{"step": 10, "ep'
  path.write_text(old)
  add_evaluations(tmp_path, [evaluation({'error': 0.5})])
  assert read_evaluations(tmp_path) == [evaluation({'error': 0.5})]
  assert path.read_text().startswith(old + '\n')


def test_results_are_grouped_by_evaluator():
  results = {'fgsm/top1': 0.5, 'fgsm/en/recall': 1.0, 'x/y': 0.0}
  assert by_evaluator(10, 1.0, results, OWN) == [
    evaluation({'top1': 0.5, 'en/recall': 1.0}),
    evaluation({'y': 0.0}, 'x'),
  ]


@pytest.mark.parametrize(
  'options, name',
  [
    ({}, 'fgsm'),
    ({'batch_size': 1}, 'fgsm'),
    ({'epsilon': 1 / 3}, 'fgsm(epsilon=0.3333)'),
    ({'norms': (1, 2)}, 'fgsm'),
    ({'norms': (1, 2, 3)}, 'fgsm(norms=1+2+3)'),
    ({'steps': 7, 'epsilon': 1}, 'fgsm(epsilon=1,steps=7)'),
  ],
)
def test_other_options_give_another_name(options, name):
  fields = {f'evals.fgsm.{k}': v for k, v in OWN['fgsm'].items()}
  assert label(evaluation({}, **options), fields) == name


def test_an_evaluator_that_the_run_lacks_shows_all_options():
  assert label(evaluation({}), {}) == 'fgsm(epsilon=0.5,norms=1+2)'
  assert label(evaluation({}, 'x'), {}) == 'x'


def test_all_metrics_of_an_evaluator_are_replaced():
  fields = {f'evals.fgsm.{k}': v for k, v in OWN['fgsm'].items()}
  final = {'fgsm/error': 0.5, 'fgsm/error_but_one': 0.25, 'fgsm_2/error': 1.0}
  later = [
    evaluation({'error': 0.75, 'other': 1.0}, epsilon=0.125),
    evaluation({'error': 0.5}),
    evaluation({'error': 0.625}, epsilon=0.125),
  ]
  assert with_evaluations(final, later, fields) == {
    'fgsm_2/error': 1.0,
    'fgsm/error': 0.5,
    'fgsm(epsilon=0.125)/error': 0.625,
  }


def test_a_report_shows_other_options_in_a_column_of_their_own(
  tmp_path, capsys
):
  folder = tmp_path / 'method=none,seed=0'
  write_run(folder, [0.5], evals=OWN)
  write_run(tmp_path / 'method=none,seed=1', [0.5], evals=OWN, seed=1)
  paper = {'method=none': {'fgsm/error': 0.5}}
  plan = {'entries': ['method=none,seed=0'], 'paper': paper}
  (tmp_path / 'sweep.json').write_text(json.dumps(plan))
  later = [
    evaluation({'error': 0.125}, epsilon=0.25),
    evaluation({'error': 0.75}),
    evaluation({'error': 1.0}, step=5),
  ]
  add_evaluations(folder, later)
  assert report.main([str(tmp_path)]) == 0
  head, _, row = capsys.readouterr().out.splitlines()
  names, cells = (line.strip('| ').split(' | ') for line in (head, row))
  shown = dict(zip(names, cells, strict=True))
  own = [v for k, v in shown.items() if k.startswith('fgsm/error')]
  other = [v for k, v in shown.items() if k.startswith('fgsm(epsilon=0.25)/')]
  assert [x.rpartition(' ')[2] for x in own + other] == ['(2)', '(1)']
