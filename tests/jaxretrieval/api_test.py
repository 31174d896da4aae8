"""Public names, docstrings and imports of the pure functions."""

import inspect
import re
import subprocess
import sys

import pytest

from jaxretrieval import losses, mining, recall, significance

FUNCTIONS = {
  f'{module.__name__.rsplit(".", 1)[-1]}.{name}': value
  for module in (losses, mining, recall, significance)
  for name, value in vars(module).items()
  if inspect.isfunction(value)
  and value.__module__ == module.__name__
  and not name.startswith('_')
}
every = pytest.mark.parametrize('name', FUNCTIONS)


def test_the_names_are_those_we_promise():
  # A change here is a change for every user: it belongs in the changelog.
  expected = 'losses.info_nce losses.m3l losses.patr losses.squared_distance '
  expected += 'losses.triplet mining.mine mining.select '
  expected += 'recall.bootstrap recall.mean_reciprocal_rank '
  expected += 'recall.median_rank recall.ranks recall.recall_at recall.summary '
  expected += 'significance.paired_test'
  assert sorted(FUNCTIONS) == expected.split()


@every
def test_a_docstring_tells_arguments_and_shows_an_example(name):
  text = inspect.getdoc(FUNCTIONS[name]) or ''
  assert '>>>' in text, 'no example'
  parameters = inspect.signature(FUNCTIONS[name]).parameters
  if 'Args:' in text:
    for parameter in parameters:
      assert re.search(rf'^  {parameter}: ', text, re.M), f'{parameter}?'
  else:
    assert len(parameters) <= 2, 'several arguments, none documented'


@every
def test_key_comes_first(name):
  parameters = list(inspect.signature(FUNCTIONS[name]).parameters)
  assert 'key' not in parameters[1:]


def test_the_pure_parts_bring_jax_alone():
  code = (
    'import sys\n'
    'from jaxretrieval import collectives, losses, mining, recall\n'
    "heavy = ['flax', 'optax', 'tensorflow_datasets', 'grain', 'torch']\n"
    "heavy += ['sklearn', 'ml_collections', 'orbax', 'PIL', 'tqdm']\n"
    'print([name for name in heavy if name in sys.modules])'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert out.stdout.strip() == '[]', out.stdout + out.stderr
