"""Static check: no source file executes code from data files.

Two exceptions are intended: `--config=FILE.py`, which ml_collections and
`launch.sweep.entries` import, and `config.task`, which `launch.task` imports.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(
  path
  for folder in ('jaxmix', 'jaxretrieval', 'launch', 'configs')
  for path in (ROOT / folder).rglob('*.py')
)
MODULES = {'pickle', 'cloudpickle', 'dill', 'marshal', 'shelve', 'joblib'}
BUILTINS = {'eval', 'exec', 'compile', '__import__'}
# By the last two parts of the dotted name.
CALLS = {
  *('os.system', 'os.popen', 'yaml.load', 'yaml.unsafe_load', 'torch.load'),
  *('importlib.import_module', 'loader.exec_module', 'runpy.run_path'),
}
EXTRACT = {'extract', 'extractall'}
ALLOWED = {
  'launch/task.py': {'importlib.import_module'},  # config.task
  'launch/sweep/entries.py': {'loader.exec_module'},  # --config=FILE.py
}


def called(node):
  """Returns the last two parts of a dotted name: `np.load` of `x.np.load`."""
  if isinstance(node, ast.Attribute):
    of = node.value
    owner = of.attr if isinstance(of, ast.Attribute) else getattr(of, 'id', '')
    return f'{owner}.{node.attr}'
  return getattr(node, 'id', '')


def dangers(source):
  """Yields the forbidden calls and imports of a source file."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.partition('.')[0] in MODULES:
          yield alias.name
    elif isinstance(node, ast.ImportFrom):
      if (node.module or '').partition('.')[0] in MODULES:
        yield node.module
      yield from (
        f'{node.module}.{alias.name}'
        for alias in node.names
        if f'{node.module}.{alias.name}' in CALLS | {'numpy.load'}
      )
    elif isinstance(node, ast.Call):
      yield from called_dangers(node)


def called_dangers(node):
  name = called(node.func)
  options = {
    k.arg: k.value.value
    for k in node.keywords
    if isinstance(k.value, ast.Constant)
  }
  # The default since torch 2.6, but required explicitly.
  safe = name == 'torch.load' and options.get('weights_only') is True
  if name in BUILTINS or (name in CALLS and not safe):
    yield name
  if name.rpartition('.')[2] in EXTRACT and '.' in name:
    yield name
  if name in ('np.load', 'numpy.load') and (
    options.get('allow_pickle') is not False
  ):
    yield f'{name} without allow_pickle=False'
  if options.get('allow_pickle') or options.get('shell'):
    yield f'{name} with allow_pickle or shell'


@pytest.mark.parametrize(
  'path', FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_source_executes_data(path):
  allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
  assert set(dangers(path.read_text())) == allowed


@pytest.mark.parametrize(
  'source',
  [
    'import pickle',
    'torch.load(path, weights_only=False)',
    'from dill import loads',
    'import joblib.memory as m',
    'eval("1")',
    'exec(x)',
    'compile(x, "", "exec")',
    '__import__("os")',
    'yaml.load(x)',
    'np.load(path)',
    'np.load(path, allow_pickle=True)',
    'np.load(path, allow_pickle=flag)',
    'from numpy import load',
    'np.savez(f, allow_pickle=True)',
    'archive.extractall(folder)',
    'tar.extract(member)',
    'subprocess.run(x, shell=True)',
    'os.system(x)',
    'importlib.import_module(x)',
    'from importlib import import_module',
    'spec.loader.exec_module(m)',
  ],
)
def test_dangerous_code_is_detected(source):
  assert list(dangers(source))


def test_harmless_code_is_not():
  assert not list(dangers('np.load(p, allow_pickle=False)\nre.compile("x")'))
