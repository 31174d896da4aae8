"""R6: wrong labels, shapes, dtypes and classes are refused before step 1."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from launch.shell.exit_codes import ExitCode
from tests.faults import trainer
from tests.faults.trainer import refused, train
from tests.jaxmix.classification import tiny_tfds
from tests.jaxmix.classification.tiny_tfds import changed

pytestmark = pytest.mark.slow

CONFIG = 'tests/faults/tiny_config.py'


def some(cases, few):
  """Returns all cases with FAULTS=full, and otherwise those at `few`."""
  return cases if trainer.FULL else [cases[i] for i in few]


def images(dtype='u1', shape=(32, 32, 3)):
  """Returns all splits with images of another dtype or shape."""
  made = tiny_tfds.examples()
  for arrays in made.values():
    arrays['image'] = np.ones((len(arrays['image']), *shape), dtype)
  return made


def labels(dtype):
  made = tiny_tfds.examples()
  for arrays in made.values():
    arrays['label'] = arrays['label'].astype(dtype)
  return made


def not_a_number():
  made = images('f4')
  made['train']['image'][3, 1, 2, 0] = np.nan
  return made


def wide(made):
  """Makes the labels of both splits int64, which can hold any number."""
  for arrays in made.values():
    arrays['label'] = arrays['label'].astype(np.int64)
  return made


def spoilt_in_test(value):
  made = wide(tiny_tfds.examples())
  made['test']['label'][5] = value
  return made


RANGE = '0..3'
CASES = [
  ('-1', wide(changed(7, -1)), ['label -1', 'example 7', RANGE]),
  ('classes', wide(changed(7, 4)), ['label 4', 'example 7', RANGE]),
  ('255', wide(changed(7, 255)), ['label 255', 'example 7', RANGE]),
  (
    'of test',
    spoilt_in_test(-3),
    ['label -3', 'example 5 of', RANGE],
  ),
  ('float', labels('f4'), ["'label' is float32"]),
  ('bool', labels('?'), ["'label' is bool"]),
  ('a class', wide(changed(7, 2)), ['class 2 has 4']),
  ('NaN', not_a_number(), ["'image' is float32", 'uint8']),
  ('floats', images('f4'), ["'image' is float32", 'uint8']),
  ('signed', images('i1'), ["'image' is int8", 'uint8']),
  ('layout', images(shape=(3, 32, 32)), ['[3, 32, 32]', '[32, 32, 3]']),
  ('size', images(shape=(28, 28, 3)), ['[28, 28, 3]', '[32, 32, 3]']),
  ('grey', images(shape=(32, 32, 1)), ['[32, 32, 1]', '[32, 32, 3]']),
]


@pytest.mark.parametrize('feed', ['streamed', 'resident'][: 1 + trainer.FULL])
@pytest.mark.parametrize(
  'splits, named',
  [pytest.param(*case, id=name) for name, *case in some(CASES, [0, 3, 7])],
)
def test_examples_that_cannot_be_trained(tmp_path, splits, named, feed):
  tiny_tfds.prepare(tmp_path, splits)
  fields = {'data.dir': tmp_path, 'data.feed': feed}
  done = train(tmp_path / 'w', fields, config=CONFIG, seconds=60)
  refused(done, ExitCode.DATA, *named)
  assert not list((tmp_path / 'w').glob('*')), 'a run was started'


def test_another_number_of_classes_than_the_network(tmp_path):
  label = tfds.features.ClassLabel(num_classes=100)
  tiny_tfds.prepare(tmp_path, label=label)
  fields = {'data.dir': tmp_path}
  done = train(tmp_path / 'w', fields, config=CONFIG, seconds=60)
  refused(done, ExitCode.DATA, "'label' has 100 classes")


def test_a_wrong_label_of_an_image_names_the_record(tmp_path):
  from tests.jaxmix.classification import photos, tiny_imagenet

  files = [(data, 3) for data in photos.some(9, 0)]
  files[6] = files[6][0], 1000
  splits = {'train': files, 'validation': files[:5]}
  label = tfds.features.Scalar(np.int64)
  folder = tiny_imagenet.prepare(tmp_path, splits, label=label)
  fields = {'data.dir': tmp_path, 'epochs': 3.0, 'steps_per_dispatch': 1}
  done = train(tmp_path / 'w', fields, config=CONFIG + ':imagenet')
  (shard,) = folder.glob('*train*')
  refused(
    done, ExitCode.DATA, f"record 6 of {shard} (example 6 of 'train')", '0..999'
  )


# --- What any task returns ---

SPOILT = [
  ('nan', ["'x'", 'nan', '[57, 2]', 'float32']),
  ('infinite', ["'x'", 'inf', '[57, 2]']),
  ('objects', ["'y'", 'object', '[100]']),
  ('too long', ["'y'", '4294967297', '[57]', 'int32']),
  ('uneven', ["'x': 100", "'y': 99"]),
  ('empty', ['no examples']),
]


@pytest.mark.parametrize('how, names', some(SPOILT, [0]))
def test_arrays_that_cannot_be_trained(tmp_path, how, names):
  fields = {'task': 'tests.faults.spoilt_task', 'data.dir': how}
  done = train(tmp_path / 'w', fields, seconds=10)
  refused(done, ExitCode.DATA, *names)
  assert not list((tmp_path / 'w').glob('*')), 'a run was started'


@pytest.mark.parametrize('arg', ['', ':streamed'][: 1 + trainer.FULL])
def test_a_batch_that_is_larger_than_the_data(tmp_path, arg):
  fields = {'batch_size': 101}
  done = train(tmp_path / 'w', fields, config=trainer.TOY + arg, seconds=10)
  refused(done, 8, 'config.batch_size=101', '100 training examples')
