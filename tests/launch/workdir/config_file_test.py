import json
import os
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from launch.cli import CONFIG
from launch.config import config_json
from launch.workdir import config_file
from launch.workdir.identity import config_fingerprint
from tests.configs_test import FOLDER, NAMES, module
from tests.launch.toy_config import get_config

# ml_collections imports config files that way.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')


@pytest.fixture
def parse(monkeypatch):
  """Reads --config as the programs do."""

  def parse(path, *overrides):
    argv = ['main', f'--config={path}', '--workdir=W', *overrides]
    monkeypatch.setattr(sys, 'argv', argv)  # ml_collections looks there
    flags.FLAGS(argv)
    return CONFIG.value

  with flagsaver.flagsaver():
    yield parse
    for name in [n for n in flags.FLAGS if n.startswith('config.')]:
      delattr(flags.FLAGS, name)


@pytest.mark.parametrize('name', NAMES)
def test_a_config_json_is_the_config_it_came_from(parse, tmp_path, name):
  there = module(name).get_config().lock()
  path = tmp_path / 'config.json'
  path.write_text(config_json(there))
  here = parse(path)
  assert here.is_locked
  assert here.to_dict() == there.to_dict()
  assert config_fingerprint(here) == config_fingerprint(there)
  assert config_json(here) == config_json(there)
  same = parse(FOLDER / f'{name}.py')
  assert same.to_dict() == here.to_dict()


def test_fields_of_a_config_json_can_be_overridden(parse, tmp_path):
  path = tmp_path / 'config.json'
  path.write_text(config_json(module('quickstart').get_config()))
  config = parse(
    path, '--config.optimizer.lr=1', '--config.mix.weights=(3,1,1,2)'
  )
  assert config.optimizer.lr == 1.0 and type(config.optimizer.lr) is float
  assert config.mix.weights == (3, 1, 1, 2)


def test_types_of_a_config_json_are_kept(parse, tmp_path):
  path = tmp_path / 'config.json'
  path.write_text(config_json(get_config()))
  with pytest.raises(flags.IllegalFlagValueError, match='batch_size=2.5'):
    parse(path, '--config.batch_size=2.5')


def read(tmp_path, content):
  path = tmp_path / 'x.json'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return config_file.read(path)


def test_lists_are_tuples(tmp_path):
  content = '{"a": [1, [2.0, "x"]], "b": {"c": [], "d": null}}'
  assert read(tmp_path, content) == {
    'a': (1, (2.0, 'x')),
    'b': {'c': (), 'd': None},
  }


@pytest.mark.parametrize(
  'content, message',
  [
    ('', 'Expecting value'),
    ('{', 'Expecting property name'),
    ('[]', 'not an object'),
    ('"task"', 'not an object'),
    (b'\xff', "can't decode"),
    ('{"a": NaN}', 'NaN is not a finite number'),
    ('{"a": [-Infinity]}', '-Infinity is not a finite number'),
    ('{"a": {"b": 1e999}}', 'too large'),
    ('{"a": ' + '9' * 5000 + '}', '4300 digits'),
    ('{"a": 1, "b": 2, "a": 1}', "'a' is there twice"),
    ('{"b": {"a": {}, "a": {}}}', "'a' is there twice"),
    ('{"__class__": 1}', "'__class__' is not the name"),
    ('{"a": {"_b": 1}}', "'_b' is not the name"),
    ('{"a.b": 1}', "'a.b' is not the name"),
    ('{"a": [{"": 1}]}', "'' is not the name"),
    ('{"a":' * 10**5, 'deeper than 16'),
    ('{"a":' * 17 + '0' + '}' * 17, 'deeper than 16'),
    ('{"a": ' + '[' * 10**5 + ']' * 10**5 + '}', 'deeper than 16'),
    ('{}' + ' ' * 2**20, 'more than 1048576 bytes'),
  ],
)
def test_what_is_no_resolved_config_is_refused(tmp_path, content, message):
  with pytest.raises(ValueError) as error:
    read(tmp_path, content)
  assert 'x.json is not a resolved config: ' in str(error.value)
  assert message in str(error.value)


def test_sixteen_levels_are_not_too_deep(tmp_path):
  content = '{"a":' * 16 + '0' + '}' * 16
  assert json.dumps(read(tmp_path, content)).count('{') == 16


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
def test_only_a_file_is_read(tmp_path, make):
  make(tmp_path / 'x.json')
  with pytest.raises(ValueError, match='x.json is not a resolved config'):
    config_file.read(tmp_path / 'x.json')


@pytest.mark.parametrize('name', ['jaxmix.x', 'jaxretrieval', 'tests.launch.x'])
def test_tasks_beside_launch_are_ours(name):
  config_file.check_task(name)


# 'this' prints when it is imported; the last two have no file.
@pytest.mark.parametrize(
  'name', ['this', 'numpy', 'json.tool', 'nowhere', '', '..x', 'os', 'sys']
)
def test_a_config_json_imports_nothing_else(name, capsys):
  with pytest.raises(ValueError) as error:
    config_file.check_task(name)
  assert f'give --config.task={name} yourself' in str(error.value)
  assert 'Zen' not in capsys.readouterr().out


def test_a_package_that_only_looks_like_ours_is_not(tmp_path, monkeypatch):
  """A namespace package is all the folders of its name."""
  (tmp_path / 'tests').mkdir()
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match='beside launch'):
    config_file.check_task('tests.evil')
