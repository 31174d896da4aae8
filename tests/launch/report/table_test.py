import pathlib

import pytest

from launch.report.groups import Group
from launch.report.runs import RunFolder
from launch.report.table import make_table


def group(*finals, paper=None):
  runs = [
    RunFolder(pathlib.Path('x'), 'x', 0, {}, [], final) for final in finals
  ]
  return Group('x', runs, 0, paper or {}, '')


def cells(*finals, paper=None):
  """Returns the cells of a table of one group, by the names in its header."""
  header, line = make_table([group(*finals, paper=paper)])
  return dict(zip(header[2:], line[2:], strict=True))


@pytest.mark.parametrize(
  'name',
  [
    *('clean/top1', 'clean/top5', 'test/accuracy', 'fgsm/error'),
    *('corruption/mean_error', 'corruption/mean_error_but_frost'),
    *('test/en/recall@10', 'test/text_recall@10', 'fgsm(epsilon=0.1)/top1'),
  ],
)
def test_fractions_are_in_per_cent(name):
  assert cells({name: 0.25}, {name: 0.5}) == {
    f'{name} (%)': '37.50 ± 17.68 (2)'
  }


@pytest.mark.parametrize(
  'name', ['clean/loss', 'test/median_rank', 'a/terror', 'a/top', 'accuracy/x']
)
def test_other_metrics_are_not(name):
  assert cells({name: 0.25}) == {name: '0.25 ± – (1)'}


def test_values_above_1_are_not_fractions():
  assert cells({'a/error': 0.5}, {'a/error': 1.5}) == {
    'a/error': '1 ± 0.71 (2)'
  }


def test_metrics_beside_a_mean_error_are_errors():
  found = {'c/mean_error': 0.5, 'c/fog': 0.25, 'c/loss': 0.5, 'd/fog': 0.25}
  assert cells(found) == {
    'c/mean_error (%)': '50.00 ± – (1)',
    'c/fog (%)': '25.00 ± – (1)',
    'c/loss': '0.5 ± – (1)',
    'd/fog': '0.25 ± – (1)',
  }


def test_the_difference_is_in_the_unit_of_the_metric():
  assert cells({'a/top1': 0.5}, {'a/top1': 0.25}, paper={'a/top1': 0.5}) == {
    'a/top1 (%)': '37.50 ± 17.68 (2)',
    'paper': '50.00',
    'difference': '-12.50',
  }
  assert cells({'a/loss': 1.5}, paper={'a/loss': 1.25}) == {
    'a/loss': '1.5 ± – (1)',
    'paper': '1.25',
    'difference': '+0.25',
  }
