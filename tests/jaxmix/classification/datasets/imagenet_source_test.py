"""ImageNet's source, feed and trainer on a small set of real JPEG images."""

import dataclasses
import functools
import os
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet_resnet50
from jaxmix.classification import task
from jaxmix.classification.datasets import imagenet_source, jpeg, splits
from jaxmix.classification.evaluators import clean, streamed
from launch.checkpoints.manager import Checkpoints
from launch.config import check_config
from launch.mesh import make_mesh
from launch.train.feeds import batch_indices, streamed_feed
from launch.train.loop import fit
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.schedule import StepSchedule
from launch.train.state import abstract_state, make_init, make_keys
from launch.workdir.metrics import final_metrics, read_metrics
from tests.jaxmix.classification import photos, tiny_imagenet


@pytest.fixture(scope='module')
def files():
  return {name: tiny_imagenet.files(name) for name in ('train', 'validation')}


@pytest.fixture(scope='module')
def root(files, tmp_path_factory):
  """`config.data.dir` with the small set."""
  root = tmp_path_factory.mktemp('imagenet')
  tiny_imagenet.prepare(root, files)
  return root


@pytest.fixture
def block(root):
  """Makes `config.data` from fields that differ from the default."""

  def make(**fields):
    config = imagenet_resnet50.get_config().data
    config.update({'dir': str(root)} | fields)
    return config

  return make


def open_split(block, split, **options) -> Any:
  return splits.source(block, split, **options)


def size_of(data):
  frame = jpeg.read_frame(data)
  return frame.height, frame.width


# --- The source ---


def test_an_image_is_read_with_the_crop_of_its_epoch(block, files):
  source = open_split(block(), 'train', seed=7, flip=True)
  assert len(source) == tiny_imagenet.TRAIN
  indices, epochs = np.array([9, 3, 9, 5, 39]), np.array([0, 2, 4, 1, 0])
  batch = source.read(indices, epochs)
  assert batch['image'].shape == (5, 224, 224, 3)
  assert batch['image'].dtype == np.uint8 and batch['label'].dtype == np.int32
  for i, (index, epoch) in enumerate(zip(indices, epochs, strict=True)):
    data, label = files['train'][index]
    assert batch['label'][i] == label
    crop = jpeg.random_resized_crop(7, epoch, index, *size_of(data), flip=True)
    expected = np.empty((224, 224, 3), np.uint8)
    frame = jpeg.read_frame(data)
    jpeg.read_crop(data, frame, crop, expected, whole=True)
    np.testing.assert_array_equal(batch['image'][i], expected)
  assert (batch['image'][0] != batch['image'][2]).any(), 'two epochs are equal'
  example = source[9]
  np.testing.assert_array_equal(example['image'], batch['image'][0])
  assert example['label'] == batch['label'][0] and source[-1]['label'] == 3
  with pytest.raises(IndexError):
    source[tiny_imagenet.TRAIN]


def test_without_flips_nothing_is_mirrored(block):
  indices, epochs = np.arange(20), np.arange(20)
  plain, flipped = (
    open_split(block(), 'train', flip=flip).read(indices, epochs)['image']
    for flip in (False, True)
  )
  same = (plain == flipped).all((1, 2, 3))
  mirrored = (plain == flipped[:, :, ::-1]).all((1, 2, 3))
  assert (same ^ mirrored).all() and 2 < mirrored.sum() < 18


def test_the_test_split_has_center_crops(block, files):
  source = open_split(block(), 'test', seed=7, flip=True)
  batch = source.read(np.arange(tiny_imagenet.TEST), np.full(11, 3))
  for (data, label), image, actual in zip(
    files['validation'], batch['image'], batch['label'], strict=True
  ):
    expected = np.empty((224, 224, 3), np.uint8)
    jpeg.center_crop(data, jpeg.read_frame(data), expected)
    np.testing.assert_array_equal(image, expected)
    assert actual == label


def test_a_subset_has_the_first_examples(block):
  config = block(train_examples=6, test_examples=5)
  assert len(open_split(config, 'train')) == 6
  assert len(open_split(config, 'test')) == 5
  with pytest.raises(IndexError):
    open_split(config, 'train')[6]
  with pytest.raises(ValueError, match=r'train_examples=41 .*40'):
    open_split(block(train_examples=41), 'train')


def with_image(record, change):
  """Returns the record with a changed JPEG file."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
  images = example.features.feature['image'].bytes_list.value
  images[0] = change(images[0])
  return example.SerializeToString()


@pytest.mark.parametrize(
  'damage', [lambda x: x[: len(x) // 2], lambda x: b'GIF89a', lambda x: b'']
)
def test_a_damaged_image_names_its_record(block, damage):
  source = open_split(block(), 'train')
  assert isinstance(source, imagenet_source.JpegSource)
  records = list(source.records)
  records[17] = with_image(records[17], damage)
  broken = dataclasses.replace(source, records=records)
  plan = StepSchedule(1, len(broken), 8, 2)
  with pytest.raises(
    ValueError,
    match=r"record 17 of .*imagenet2012-train\.\S+ \(example 17 of 'train'\)",
  ):
    list(streamed_feed(broken, 0, plan, make_mesh()).chunks(0))


@pytest.mark.parametrize(
  'fields, error, match',
  [
    ({'dir': '/nowhere'}, FileNotFoundError, '/nowhere/imagenet2012/<version>'),
    ({'workers': -1}, ValueError, r'config\.data\.workers=-1'),
    ({'source': 'x.tar'}, ValueError, r"config\.data\.source='x\.tar'"),
    ({'download': True}, ValueError, r'config\.data\.download=True'),
    ({'train_examples': -1}, ValueError, r'config\.data\.train_examples=-1'),
  ],
)
def test_what_cannot_be_opened(block, fields, error, match):
  with pytest.raises(error, match=match):
    open_split(block(**fields), 'train')


def test_the_number_of_workers(block):
  assert open_split(block(workers=3), 'train').workers == 3
  cores = len(os.sched_getaffinity(0))
  assert open_split(block(), 'train').workers == cores


def test_it_is_not_kept_in_memory(block):
  with pytest.raises(ValueError, match=r"config\.data\.feed='resident'"):
    splits.load(block(feed='resident'), 'train')


def test_a_missing_file_is_named(files, block, tmp_path):
  folder = tiny_imagenet.prepare(tmp_path, {'train': files['train'][:2]})
  with pytest.raises(ValueError, match="'train'.*'validation'"):
    open_split(block(dir=str(tmp_path)), 'test')
  (shard,) = folder.glob('*train*array_record*')
  shard.unlink()
  with pytest.raises(FileNotFoundError, match=shard.name):
    open_split(block(dir=str(tmp_path)), 'train')


# --- The feed ---


def test_neither_workers_nor_a_resume_change_a_pixel(block):
  plan = StepSchedule(2, tiny_imagenet.TRAIN, 10, 3)
  mesh = make_mesh()

  def stream(workers, step):
    source = open_split(block(workers=workers), 'train', seed=3, flip=True)
    batches = []
    for b in streamed_feed(source, 3, plan, mesh).chunks(step):
      b = jax.device_get(b)
      batches += [
        dict(zip(b, x, strict=True)) for x in zip(*b.values(), strict=True)
      ]
    return batches

  whole = stream(1, 0)
  assert len(whole) == 8
  source = open_split(block(), 'train', seed=3, flip=True)
  indices = batch_indices(3, tiny_imagenet.TRAIN, 10, 5, 1)[0]
  expected = source.read(indices, np.ones_like(indices))
  for name in expected:
    np.testing.assert_array_equal(whole[5][name], expected[name])
  for workers, step in [(4, 0), (2, 2), (3, 5), (2, 7)]:
    for a, b in zip(stream(workers, step), whole[step:], strict=True):
      jax.tree.map(np.testing.assert_array_equal, a, b)


# --- The evaluator ---


@pytest.mark.slow
def test_a_streamed_evaluation_is_the_resident_one(block):
  source = open_split(block(workers=2), 'test')
  examples = source.read(np.arange(11), np.zeros(11))
  calls = []

  class Counted:
    workers = 2

    def __len__(self):
      return 11

    def read(self, indices, epochs):
      calls.append(len(indices))
      return source.read(indices, epochs)

  def predict(params, model_state, images):
    del model_state
    mean = jnp.mean(images.astype(jnp.float32), (1, 2)) / 255
    return (mean @ params).astype(jnp.float32)

  params = jax.random.normal(jax.random.key(0), (3, 7))
  mesh = make_mesh(jax.devices()[:1])
  kept = clean.make(predict, examples, batch_size=4, mesh=mesh)(params, {})()
  read = streamed.make(predict, Counted(), batch_size=4, mesh=mesh)
  assert not calls, 'it reads before it is called'
  results = read(params, {})()
  assert calls == [4, 4, 4] and results == pytest.approx(kept)
  assert read(params, {})() == results, 'the second time differs'
  with pytest.raises(ValueError, match=r'batch_size=0'):
    streamed.make(predict, Counted(), batch_size=0, mesh=mesh)


# --- A run ---


@pytest.fixture
def small(root, monkeypatch):
  """Returns the config of twelve steps of eight 32x32 crops."""
  spec = splits.dataset_spec(imagenet_resnet50.get_config().data)
  shape = (32, 32, 3)
  monkeypatch.setitem(
    splits.DATASETS, 'imagenet', dataclasses.replace(spec, image_shape=shape)
  )
  config = imagenet_resnet50.get_config('smoke,method=none')
  config.model = {
    'name': 'wide_resnet',
    'depth': 10,
    'width': 1,
    'stem_stride': 1,
    'dtype': 'float32',
  }
  config.data.update(
    {'dir': str(root), 'train_examples': 0, 'test_examples': 0, 'workers': 2}
  )
  config.update({'epochs': 2.4, 'eval_every': 1.0, 'checkpoint_every': 1.0})
  config.batch_size = 8
  config.evals.clean.batch_size = 8
  return config.lock()


def final_state(config, workdir):
  """The newest checkpoint of a run, on the host."""
  mesh = make_mesh()
  plan = StepSchedule(config.epochs, tiny_imagenet.TRAIN, config.batch_size, 1)
  schedule = make_schedule(config.optimizer, plan)
  init = make_init(task, config, make_optimizer(config.optimizer, schedule))
  target = abstract_state(init, make_keys(0, mesh)[0], mesh)
  checkpoints = Checkpoints(workdir / 'checkpoints', 9, {})
  restored = checkpoints.restore(target)
  assert restored is not None and restored[0] == plan.total_steps == 12
  return jax.device_get(restored[1])


@pytest.mark.slow
def test_a_run_that_crashed_ends_in_the_same_bits(small, tmp_path):
  results = fit(task, small, tmp_path / 'whole')
  assert results['clean/loss'] < 30 and 'clean/top1_low' in results
  calls = []

  def make_evaluators(config, mesh):
    evaluate = task.make_evaluators(config, mesh)['clean']

    def crash(params, model_state):
      calls.append(1)
      if len(calls) == 2:
        raise KeyError('the evaluator has a bug')
      return evaluate(params, model_state)

    return {'clean': crash}

  crashing = types.SimpleNamespace(
    **vars(task) | {'make_evaluators': make_evaluators}
  )
  with pytest.raises(KeyError, match='a bug'):
    fit(crashing, small, tmp_path / 'resumed')  # pyright: ignore
  assert final_metrics(tmp_path / 'resumed') is None
  # The number of threads may change in between.
  small = small.copy_and_resolve_references()
  small.data.workers = 3
  fit(task, small, tmp_path / 'resumed')
  a, b = (final_state(small, tmp_path / n) for n in ('whole', 'resumed'))
  compare = functools.partial(np.testing.assert_array_equal, strict=True)
  jax.tree.map(compare, a, b)
  records = [
    [
      {k: v for k, v in record.items() if not k.startswith('time/')}
      for record in read_metrics(tmp_path / name)
    ]
    for name in ('whole', 'resumed')
  ]
  assert records[0] == records[1]


def test_a_pad_is_refused(small):
  small = small.copy_and_resolve_references()
  small.augment.pad = 4
  with pytest.raises(ValueError, match=r'config\.augment\.pad=4'):
    check_config(small, task.SCHEMA)


def test_the_images_of_these_tests_differ_in_size(files):
  sizes = {size_of(data) for data, _ in files['train']}
  assert len(sizes) > 30
  assert photos.decode(files['train'][3][0]).std() > 10
