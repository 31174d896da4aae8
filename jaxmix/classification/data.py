"""The data sets of the trainer: digits, CIFAR-10, CIFAR-100 and ImageNet.

Everything hangs on one block of the config:

    config.data = {
      name: 'digits' | 'cifar10' | 'cifar100' | 'imagenet',
      source: '',          # the publisher's archive or folder (CIFAR)
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
Images are uint8 [H, W, C], labels int32. Where CIFAR is looked for is told in
`jaxmix.classification.datasets`, what is checked in `archives` and `records`;
ImageNet, which is only streamed, has `imagenet`.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxmix.classification import checks, digits
from jaxmix.classification.source import ArraySource, Source


@dataclasses.dataclass(frozen=True)
class Info:
  """What is known of a data set before it is read.

  Attributes:
    name: as in `config.data.name`.
    num_classes: labels are 0..num_classes-1.
    image_shape: (H, W, C).
    train_examples: length of the train split, after any subset.
    test_examples: the same of the test split.
    mean: per channel, of the whole train split with pixels scaled to 0..1.
    std: population standard deviation, same pixels, same units.
    photographs: of many sizes, cropped to `image_shape` as they are read; only
      streamed, and a prepared set may have other numbers of examples.
  """

  name: str
  num_classes: int
  image_shape: tuple[int, int, int]
  train_examples: int
  test_examples: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  photographs: bool = False


# Mean and std: `x = images / 255; x.mean((0, 1, 2)), x.std((0, 1, 2))` in
# float64 over the whole train split, to four places. data_test recomputes those
# of the digits and of CIFAR-100; CIFAR-10's are the ones in common use.
_INFOS = {
  'digits': Info(
    'digits', 10, (8, 8, 1), 1437, 360, mean=(0.3058,), std=(0.3761,)
  ),
  'cifar10': Info(
    'cifar10',
    10,
    (32, 32, 3),
    50_000,
    10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
  ),
  'cifar100': Info(
    'cifar100',
    100,
    (32, 32, 3),
    50_000,
    10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
  ),
  # Mean and std are those in common use.
  'imagenet': Info(
    'imagenet',
    1000,
    (224, 224, 3),
    1_281_167,
    50_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    photographs=True,
  ),
}


def info(data_config: Any) -> Info:
  """Describes the data set of `config.data`, its subsets taken into account.

  Touches no files.

  Raises:
    ValueError: unknown name, or an impossible number of examples.
  """
  if data_config.name not in _INFOS:
    raise ValueError(
      f'config.data.name={data_config.name!r} is not one of {sorted(_INFOS)}'
    )
  if data_config.name == 'digits' and data_config.source:
    raise ValueError(
      f'config.data.source={data_config.source!r}: the digits come with '
      'scikit-learn and are read from nowhere else; leave it empty'
    )
  full = _INFOS[data_config.name]
  if full.photographs and (data_config.source or data_config.download):
    raise ValueError(
      f'config.data.source={data_config.source!r}, config.data.download='
      f'{data_config.download}: {full.name} is read from a prepared set in '
      "config.data.dir; leave them '' and False"
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
    split: 'train' or 'test'.

  Returns:
    {'image': uint8 [N, H, W, C], 'label': int32 [N]}. The order is the
    publisher's (tfds' own where tfds prepared the set). With
    `train_examples=N` or `test_examples=N`, each class keeps its first
    N / num_classes examples, the first N % num_classes classes one more.

  Raises:
    ValueError: a bad config, or data that is not what it should be.
    FileNotFoundError: the data set is nowhere; says what to do.
  """
  described = info(data_config)
  if described.photographs:
    raise ValueError(
      f'config.data.feed={data_config.feed!r}: {described.name} does not fit '
      "into memory; it must be 'streamed'"
    )
  expected = _examples(described, split)
  arrays = _load_all(data_config, split)
  checks.check_arrays(
    f'{described.name} {split}',
    arrays,
    described.image_shape,
    described.num_classes,
  )
  if expected != len(arrays['label']):
    keep = _balanced(data_config, split, arrays['label'])
    arrays = {name: array[keep] for name, array in arrays.items()}
  return arrays


def source(
  data_config: Any, split: str, *, seed: int = 0, flip: bool = False
) -> Source:
  """Opens a split for random access: `source(c, s)[i]` is `load(c, s)` at i.

  CIFAR stays on disk in ArrayRecord files; to choose a subset its labels are
  read once. The digits are in memory anyway. May be pickled, and read from
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
  described = info(data_config)
  expected = _examples(described, split)
  if described.photographs:
    from jaxmix.classification import imagenet

    return imagenet.open_split(
      data_config,
      split,
      described.image_shape,
      described.num_classes,
      seed=seed,
      flip=flip,
    )
  if data_config.name == 'digits':
    return ArraySource(load(data_config, split))
  from jaxmix.classification import records

  opened = records.open_split(_find(data_config), data_config.name, split)
  if expected != len(opened):
    labels = _load_all(data_config, split)['label']
    keep = _balanced(data_config, split, labels)
    opened = dataclasses.replace(opened, indices=keep)
  return opened


def _load_all(data_config: Any, split: str) -> dict[str, np.ndarray]:
  if data_config.name == 'digits':
    return digits.load(split)
  # Here, so that the digits run where tfds and array-record are missing.
  from jaxmix.classification import records

  return records.load_split(_find(data_config), data_config.name, split)


def _find(data_config: Any):
  from jaxmix.classification import datasets

  return datasets.find(
    data_config.name,
    data_dir=data_config.dir,
    source=data_config.source,
    download=data_config.download,
  )


def _examples(described: Info, split: str) -> int:
  if split not in ('train', 'test'):
    raise ValueError(f"split={split!r} is not 'train' or 'test'")
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
  classes = _INFOS[data_config.name].num_classes
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
