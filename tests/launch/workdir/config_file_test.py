import json
import os

import pytest
from absl import flags

from launch.cli import CONFIG
from launch.config import config_json
from launch.workdir import config_file
from launch.workdir.identity import config_fingerprint
from tests.configs_test import FOLDER, NAMES, module
from tests.launch.toy_config import get_config

# ml_collections imports config files that way.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')


@pytest.fixture
def parse(argv):
  """Reads --config as the programs do."""

  def parse(path, *overrides):
    flags.FLAGS(argv(f'--config={path}', '--workdir=W', *overrides))
    return CONFIG.value

  return parse


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
  'content, name',
  [
    ('', ''),
    ('{', ''),
    ('[]', 'object'),
    ('"task"', 'object'),
    (b'\xff', '0xff'),
    ('{"a": NaN}', 'NaN'),
    ('{"a": [-Infinity]}', '-Infinity'),
    ('{"a": {"b": 1e999}}', 'finite'),
    ('{"a": ' + '9' * 5000 + '}', '4300 digits'),
    ('{"a": 1, "b": 2, "a": 1}', "'a'"),
    ('{"b": {"a": {}, "a": {}}}', "'a'"),
    ('{"__class__": 1}', "'__class__'"),
    ('{"a": {"_b": 1}}', "'_b'"),
    ('{"a.b": 1}', "'a.b'"),
    ('{"a": [{"": 1}]}', "''"),
    ('{"a":' * 10**5, 'deep'),
    ('{"a":' * 17 + '0' + '}' * 17, 'deep'),
    ('{"a": ' + '[' * 10**5 + ']' * 10**5 + '}', 'deep'),
    ('{}' + ' ' * 2**20, '1048576 bytes'),
  ],
)
def test_an_invalid_config_is_refused(tmp_path, content, name):
  with pytest.raises(ValueError) as error:
    read(tmp_path, content)
  path, _, reason = str(error.value).partition(' is ')
  assert path.endswith('x.json') and name in reason


def test_sixteen_levels_are_not_too_deep(tmp_path):
  content = '{"a":' * 16 + '0' + '}' * 16
  assert json.dumps(read(tmp_path, content)).count('{') == 16


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir])
def test_only_a_file_is_read(tmp_path, make):
  make(tmp_path / 'x.json')
  with pytest.raises(ValueError, match='x.json'):
    config_file.read(tmp_path / 'x.json')


@pytest.mark.parametrize('name', ['jaxmix.x', 'jaxretrieval', 'tests.launch.x'])
def test_tasks_beside_launch_are_allowed(name):
  config_file.check_task(name)


# `this` prints when it is imported; the last two have no file.
@pytest.mark.parametrize(
  'name', ['this', 'numpy', 'json.tool', 'nowhere', '', '..x', 'os', 'sys']
)
def test_a_config_json_imports_nothing_else(name, capsys):
  with pytest.raises(ValueError) as error:
    config_file.check_task(name)
  assert f'--config.task={name}' in str(error.value)
  assert 'Zen' not in capsys.readouterr().out


def test_a_package_of_the_same_name_elsewhere_is_refused(tmp_path, monkeypatch):
  """A namespace package consists of all folders of its name."""
  (tmp_path / 'tests').mkdir()
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match='tests.evil'):
    config_file.check_task('tests.evil')
