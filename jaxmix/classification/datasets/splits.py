"""The data sets of the trainer: pictures, and sounds of one second.

Everything hangs on one block of the config:

    config.data = {
      name: 'digits',      # or another of the names below
      source: '',          # the publisher's archive or folder
      dir: '',             # prepared sets; default $TFDS_DATA_DIR, else
                           # ~/tensorflow_datasets
      download: False,     # may the publisher's archive be fetched?
      feed: 'resident' | 'streamed',  # load() or source(); the caller's choice
      train_examples: 0,   # 0: all, N: a class-balanced subset (of ImageNet
      test_examples: 0,    # the first N, in the order that tfds shuffled)
      workers: 0,          # ImageNet alone: threads that read and decode; 0:
                           # one on each core
    }

`load` gives a split as arrays in RAM, `source` the same examples in the same
order one at a time, and `info` what a model must know before any is read.
Images are uint8 [H, W, C], sounds int16 [T], labels int32. Of the modules in
`datasets`, `prepared` tells where a set is looked for, those that `published`
names and `records` what is checked; ImageNet, which is only streamed, has
`imagenet`.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxmix.classification.datasets import checks, digits
from jaxmix.classification.datasets.source import ArraySource, Source
from jaxmix.classification.datasets.specs import DATASETS, DatasetSpec


def dataset_spec(data_config: Any) -> DatasetSpec:
  """Describes the data set of `config.data`, its subsets taken into account.

  Touches no files.

  Raises:
    ValueError: unknown name, or an impossible number of examples.
  """
  if data_config.name not in DATASETS:
    raise ValueError(
      f'config.data.name={data_config.name!r} is not one of {sorted(DATASETS)}'
    )
  if data_config.name == 'digits' and data_config.source:
    raise ValueError(
      f'config.data.source={data_config.source!r}: the digits come with '
      'scikit-learn and are read from nowhere else; leave it empty'
    )
  full = DATASETS[data_config.name]
  if full.photographs and (data_config.source or data_config.download):
    raise ValueError(
      f'config.data.source={data_config.source!r}, config.data.download='
      f'{data_config.download}: {full.name} is read from a prepared set in '
      "config.data.dir; leave them '' and False (python -m "
      'jaxmix.classification.datasets.imagenet_tars makes one of the archives)'
    )
  return dataclasses.replace(
    full,
    train_examples=_wanted(data_config, 'train', full.train_examples),
    test_examples=_wanted(data_config, 'test', full.test_examples),
  )


def load(data_config: Any, split: str) -> dict[str, np.ndarray]:
  """Reads a split into RAM.

  Args:
    data_config: `config.data`, see the top of this file.
    split: 'train', 'test' or, where there is one, 'validation'.

  Returns:
    {'image': uint8 [N, H, W, C] or 'audio': int16 [N, T],
    'label': int32 [N]}. The order is the
    publisher's (tfds' own where tfds prepared the set). With
    `train_examples=N` or `test_examples=N`, each class keeps its first
    N / num_classes examples, the first N % num_classes classes one more.

  Raises:
    ValueError: a bad config, or data that is not what it should be.
    FileNotFoundError: the data set is nowhere; says what to do.
  """
  described = dataset_spec(data_config)
  if described.photographs:
    raise ValueError(
      f'config.data.feed={data_config.feed!r}: {described.name} does not fit '
      "into memory; it must be 'streamed'"
    )
  expected = _examples(described, split)
  whole = expected == _examples(DATASETS[data_config.name], split)
  if data_config.name == 'digits':
    arrays = digits.load(split)
  else:
    # Here, so that the digits run where tfds and array-record are missing.
    from jaxmix.classification.datasets import array_records

    if not whole:  # what else there is need not be decoded
      return array_records.read_all(source(data_config, split))
    arrays = array_records.load_split(
      _find(data_config), data_config.name, split
    )
  sounds = described.sample_rate > 0
  checks.check_arrays(
    f'{described.name} {split}',
    arrays,
    (described.sample_rate,) if sounds else described.image_shape,
    described.num_classes,
    feature=described.feature,
    dtype='int16' if sounds else 'uint8',
  )
  if not whole:
    keep = _balanced(data_config, split, arrays['label'])
    arrays = {name: array[keep] for name, array in arrays.items()}
  return arrays


def source(
  data_config: Any, split: str, *, seed: int = 0, flip: bool = False
) -> Source:
  """Opens a split for random access: `source(c, s)[i]` is `load(c, s)` at i.

  Prepared sets stay on disk in ArrayRecord files; to choose a subset the labels
  are read once. The digits are in memory anyway. May be pickled, and read from
  several threads.

  Args:
    data_config: `config.data`, see the top of this file.
    split: 'train' or 'test'.
    seed: of ImageNet's random crops, which the train split alone has.
    flip: whether half of those are mirrored.

  Raises:
    ValueError: a bad config, or data that is not what it should be.
    FileNotFoundError: the data set is nowhere; says what to do.
  """
  described = dataset_spec(data_config)
  expected = _examples(described, split)
  if described.photographs:
    from jaxmix.classification.datasets import imagenet_source

    return imagenet_source.open_split(
      data_config,
      split,
      described.image_shape,
      described.num_classes,
      seed=seed,
      flip=flip,
    )
  if data_config.name == 'digits':
    return ArraySource(load(data_config, split))
  from jaxmix.classification.datasets import array_records

  opened = array_records.open_split(_find(data_config), data_config.name, split)
  if expected != len(opened):
    keep = _balanced(data_config, split, opened.read_labels())
    opened = dataclasses.replace(opened, indices=keep)
  return opened


def _find(data_config: Any):
  from jaxmix.classification.datasets import prepare

  return prepare.find(
    data_config.name,
    data_dir=data_config.dir,
    source=data_config.source,
    download=data_config.download,
  )


def _examples(described: DatasetSpec, split: str) -> int:
  splits = (
    'train',
    'test',
    *['validation'] * bool(described.validation_examples),
  )
  if split not in splits:
    raise ValueError(f'split={split!r} of {described.name} is not in {splits}')
  return getattr(described, f'{split}_examples')


def _wanted(data_config: Any, split: str, available: int) -> int:
  field = f'{split}_examples'
  wanted = data_config[field]
  if not 0 <= wanted <= available:
    raise ValueError(
      f'config.data.{field}={wanted}: {data_config.name} has {available} '
      f'{split} examples (0 takes all)'
    )
  return wanted or available


def _balanced(data_config: Any, split: str, labels: np.ndarray) -> np.ndarray:
  """Indices of the class-balanced subset, ascending."""
  wanted = data_config[f'{split}_examples']
  classes = DATASETS[data_config.name].num_classes
  each, more = divmod(wanted, classes)
  quota = each + (np.arange(classes) < more)
  counts = np.bincount(labels, minlength=classes)
  short = np.flatnonzero(counts < quota)
  if short.size:
    raise ValueError(
      f'config.data.{split}_examples={wanted} asks for {quota[short[0]]} of '
      f'class {short[0]}, which has {counts[short[0]]}; at most '
      f'{classes * counts.min()} can be balanced (0 takes all)'
    )
  # The rank of an example among those of its class, in file order.
  order = np.argsort(labels, kind='stable')
  rank = np.empty(len(labels), np.int64)
  rank[order] = np.arange(len(labels)) - np.repeat(
    np.cumsum(counts) - counts, counts
  )
  return np.flatnonzero(rank < quota[labels])
