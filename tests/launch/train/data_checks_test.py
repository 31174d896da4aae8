import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from launch.train import data_checks
from launch.train.loop import fit
from tests.launch import toy_task
from tests.launch.toy_config import make_config
from tests.launch.toy_task import changed_task
from tests.launch.train.loop_test import crash_at, hooked_task

ROWS = 5000  # of a kilobyte: more than one piece


def arrays(**changes) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  made = {
    'x': rng.normal(size=(ROWS, 16, 16)).astype(np.float32),
    'y': np.arange(ROWS),
    'seen': np.zeros(ROWS, bool),
  }
  return made | changes


def spoilt(value, dtype='f4', index=(4321, 3, 2)):
  array = arrays()['x'].astype(dtype)
  array[index] = value
  return {'x': array}


def test_the_fingerprint_is_of_names_dtypes_shapes_and_every_byte():
  good = data_checks.arrays_fingerprint(arrays())
  assert good == data_checks.arrays_fingerprint(
    dict(reversed(arrays().items()))
  )
  assert good == data_checks.arrays_fingerprint(
    arrays(x=arrays()['x'].copy('F'))
  )
  x, y = arrays()['x'], arrays()['y']
  flipped = x.copy()
  flipped.reshape(-1).view(np.uint8)[-1] ^= 1
  others = [
    arrays(x=flipped),
    arrays(x=x[::-1]),
    arrays(x=x.reshape(ROWS, 8, 32)),
    arrays(x=x.view(np.int32)),
    arrays(x=x[:-1]),
    arrays(y=y.astype('i4')),
    {'y': x, 'x': y, 'seen': arrays()['seen']},
    {'z': x, 'y': y, 'seen': arrays()['seen']},
  ]
  fingerprints = {data_checks.arrays_fingerprint(other) for other in others}
  assert len(fingerprints | {good}) == 1 + len(others)


@pytest.mark.parametrize(
  'dtype', [bool, 'u1', 'i8', 'f2', 'f4', 'f8', 'c8', jnp.bfloat16]
)
@pytest.mark.parametrize('shape', [(3,), (3, 0), (3, 2, 2)])
def test_every_dtype_of_numbers_passes(tmp_path, dtype, shape):
  made = {'x': np.ones(shape, dtype)}
  fingerprint = data_checks.check_inputs(made, 3, tmp_path)
  assert isinstance(fingerprint, str) and len(fingerprint) == 64


@pytest.mark.parametrize(
  'changes, message',
  [
    (spoilt(np.nan), r"'x' .* nan .*\[4321, 3, 2\].* float32"),
    (spoilt(-np.inf), r"'x' .* -inf .*\[4321, 3, 2\].*example 4321"),
    (spoilt(np.nan, 'f2'), r"'x' .* nan .*\[4321, 3, 2\]"),
    (spoilt(np.nan, jnp.bfloat16), r"'x' .* nan .*\[4321, 3, 2\]"),
    (spoilt(1e300, 'f8'), r"'x' .* 1e\+300 .*\[4321, 3, 2\].* float32"),
    ({'y': arrays()['y'] + 2**31 - 4000}, r"'y' .* 2147483648 .*\[4000\]"),
    ({'y': arrays()['y'].astype(object)}, "'y' is object of shape"),
    ({'y': arrays()['y'].astype(str)}, r"'y' is <U\d+"),
    ({'y': arrays()['y'].astype('M8[s]')}, "'y' is datetime64"),
    ({'y': arrays()['y'].tolist()}, r"'y' is list of shape \[5000\]"),
    ({'y': np.float32(3)}, r"'y' is float32 of shape \[\]"),
    ({'y': arrays()['y'][:-1]}, "'y': 4999"),
  ],
)
def test_what_cannot_be_trained_is_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    data_checks.check_inputs(arrays(**changes), 8, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_first_bad_row_is_named_whichever_thread_is_first(tmp_path):
  x = arrays()['x']
  x[4998:] = np.nan
  x[77, 5, 1] = np.inf
  with pytest.raises(ValueError, match=r' inf .*\[77, 5, 1\]'):
    data_checks.check_inputs(arrays(x=x), 8, tmp_path)


def test_a_batch_is_not_larger_than_the_data(tmp_path):
  data_checks.check_inputs(arrays(), ROWS, tmp_path)
  source = toy_task.Rows()
  for data, size in (arrays(), ROWS + 1), (source, 101):
    message = f'config.batch_size={size} .* {size - 1} '
    with pytest.raises(ValueError, match=message):
      data_checks.check_inputs(data, size, tmp_path)


def source_of(example, **attributes) -> Any:
  class Source:
    def __len__(self):
      return 9

    def __getitem__(self, index):
      return example

  source = Source()
  vars(source).update(attributes)
  return source


def test_a_source_gives_its_fingerprint_if_it_has_one(tmp_path):
  example = {'x': np.ones(3), 'y': np.int32(1)}
  assert data_checks.check_inputs(source_of(example), 8, tmp_path) is None
  source = source_of(example, fingerprint='abc')
  assert data_checks.check_inputs(source, 8, tmp_path) == 'abc'
  text = source_of({'x': np.ones(3), 'y': np.array('a')})
  with pytest.raises(ValueError, match=r"\['y'\].*is <U1"):
    data_checks.check_inputs(text, 8, tmp_path)


def test_values_are_checked_once(tmp_path, monkeypatch):
  looked = []
  monkeypatch.setattr(
    data_checks, '_check_values', lambda arrays: looked.append(1)
  )
  for content in None, '{', '[]', '{"fingerprint": "another"}':
    if content is not None:
      (tmp_path / 'data.json').write_text(content)
    fingerprint = data_checks.check_inputs(arrays(), 8, tmp_path)
  assert len(looked) == 4
  data_checks.record_inputs(fingerprint, arrays(), tmp_path)
  about = json.loads((tmp_path / 'data.json').read_text())
  assert about['fingerprint'] == fingerprint and about['examples'] == ROWS
  assert about['arrays']['x'] == ['float32', ROWS, 16, 16]
  assert data_checks.check_inputs(arrays(), 8, tmp_path) == fingerprint
  assert len(looked) == 4
  data_checks.check_inputs(arrays(seen=np.ones(ROWS, bool)), 8, tmp_path)
  assert len(looked) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
  'kind', ['arrays', pytest.param('source', marks=pytest.mark.slow)]
)
def test_a_run_does_not_resume_with_other_data(tmp_path, kind):
  def train_data(config, shift=0.0):
    made = toy_task.arrays()
    made['x'][17, 2] += shift
    if kind == 'arrays':
      return made
    rows = toy_task.Rows()
    vars(rows).update(_arrays=made, fingerprint=f'shifted by {shift}')
    return rows

  crashing = hooked_task(crash_at(3))
  crashing.train_data = train_data
  with pytest.raises(KeyError):
    fit(crashing, make_config(), tmp_path)
  known = json.loads((tmp_path / 'data.json').read_text())['fingerprint']
  other = changed_task(train_data=lambda config: train_data(config, 1e-3))
  with pytest.raises(ValueError, match=f"data: '{known}'"):
    fit(other, make_config(), tmp_path)
  after = json.loads((tmp_path / 'data.json').read_text())['fingerprint']
  assert after == known, 'the data of another run were recorded'


def test_bad_data_leave_no_files(tmp_path):
  data = toy_task.arrays()
  data['x'][3, 1] = np.nan
  task = changed_task(train_data=lambda config: data)
  with pytest.raises(ValueError, match=r"'x' .* nan .*\[3, 1\]"):
    fit(task, make_config(), tmp_path)
  assert not list(tmp_path.iterdir())
