"""Splits of the trainer's data sets: images, and audio of one second.

A data set is described by one block of the config:

    config.data = {
      name: 'digits',      # a key of specs.DATASETS
      source: '',          # the publisher's archive or folder
      dir: '',             # folder of prepared sets; default $TFDS_DATA_DIR,
                           # else ~/tensorflow_datasets
      download: False,     # whether to download the publisher's archive
      feed: 'resident' | 'streamed',  # whether the caller uses load or source
      train_examples: 0,   # 0: all, N: a class-balanced subset (of ImageNet
      test_examples: 0,    # the first N, in the shuffled order of the set)
      workers: 0,          # ImageNet only: threads that read and decode; 0:
                           # one per core
    }

`load` returns a split as arrays in memory, `source` gives random access to the
same examples in the same order, and `dataset_spec` returns what a model must
know before any example is read. Images are uint8 [H, W, C], audio is int16 [T],
labels are int32.
"""

import dataclasses
import hashlib
import operator
import pathlib
from typing import Any, Protocol

import numpy as np

from jaxmix.classification.datasets import digits
from jaxmix.classification.datasets.specs import DATASETS, DatasetSpec


class Source(Protocol):
  """Random access to `{'image': uint8 [H, W, C], 'label': int32 []}`."""

  @property
  def fingerprint(self) -> str | None:
    """The sha256 of the examples."""
    ...

  def __len__(self) -> int:
    """Number of examples."""
    ...

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    """Returns one example; negative indices count from the end."""
    ...

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    """Returns several examples, in the order of `indices`."""
    ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """A `Source` over arrays in memory, such as `load` returns."""

  arrays: dict[str, np.ndarray]

  @property
  def fingerprint(self) -> str:
    """The sha256 of the examples."""
    total = hashlib.sha256()
    for name, array in sorted(self.arrays.items()):
      total.update(f'{name} {array.dtype} {array.shape}'.encode())
      total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()

  def __len__(self) -> int:
    return len(self.arrays['label'])

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    index = operator.index(index)
    return {name: array[index] for name, array in self.arrays.items()}

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    return [self[i] for i in indices]


def dataset_spec(data_config: Any) -> DatasetSpec:
  """Returns the spec of `config.data`, with the sizes of its subsets.

  Reads no files.

  Raises:
    ValueError: the name is unknown, or a number of examples is impossible.
  """
  if data_config.name not in DATASETS:
    raise ValueError(
      f'config.data.name={data_config.name!r} must be one of {sorted(DATASETS)}'
    )
  if data_config.name == 'digits':
    for field, unset in (('source', ''), ('dir', ''), ('download', False)):
      if data_config[field] != unset:
        raise ValueError(
          f'config.data.{field}={data_config[field]!r} must be {unset!r} for '
          'digits, which are read from scikit-learn'
        )
  full = DATASETS[data_config.name]
  if full.is_jpeg and (data_config.source or data_config.download):
    raise ValueError(
      f'config.data.source={data_config.source!r} and config.data.download='
      f"{data_config.download} must be '' and False for {full.name}, which is "
      'read from a prepared set in config.data.dir (python -m '
      'jaxmix.classification.datasets.imagenet_tars prepares it)'
    )
  return dataclasses.replace(
    full,
    train_examples=_subset_size(data_config, 'train', full.train_examples),
    test_examples=_subset_size(data_config, 'test', full.test_examples),
  )


def load(data_config: Any, split: str) -> dict[str, np.ndarray]:
  """Reads a split into memory.

  Args:
    data_config: `config.data`, see the module docstring.
    split: 'train', 'test' or, where there is one, 'validation'.

  Returns:
    {'image': uint8 [N, H, W, C] or 'audio': int16 [N, T],
    'label': int32 [N]} in the publisher's order (in that of tfds if tfds
    prepared the set). With `train_examples=N` or `test_examples=N`, each class
    keeps its first N / num_classes examples, the first N % num_classes classes
    one more.

  Raises:
    ValueError: the config is invalid, or the data are not as expected.
    FileNotFoundError: the data set was found nowhere; says what to do.
  """
  spec = dataset_spec(data_config)
  _check_split(spec, split)
  if spec.is_jpeg:
    raise ValueError(
      f"config.data.feed='resident': {spec.name} does not fit into memory; "
      "set config.data.feed='streamed'"
    )
  all_examples = DATASETS[spec.name].examples(split)
  if data_config.name == 'digits':
    arrays = digits.load(split)
  else:
    # Imported here, so that the digits need neither tfds nor array_record.
    from jaxmix.classification.datasets import array_records

    if spec.examples(split) != all_examples:
      # Only the examples of the subset are decoded.
      return array_records.read_all(source(data_config, split))
    arrays = array_records.load_split(
      _find(data_config), data_config.name, split
    )
  if spec.examples(split) != all_examples:
    keep = _balanced_subset(data_config, split, arrays['label'])
    arrays = {name: array[keep] for name, array in arrays.items()}
  return arrays


def source(
  data_config: Any, split: str, *, seed: int = 0, flip: bool = False
) -> Source:
  """Opens a split for random access: `source(c, s)[i]` is `load(c, s)` at i.

  Prepared sets stay on disk in ArrayRecord files; to choose a subset, the
  labels are read once. The digits are in memory anyway. A source can be
  pickled, and read by several threads.

  Args:
    data_config: `config.data`, see the module docstring.
    split: 'train' or 'test'.
    seed: of ImageNet's random crops, which only the train split has.
    flip: whether half of those are mirrored.

  Raises:
    ValueError: the config is invalid, or the data are not as expected.
    FileNotFoundError: the data set was found nowhere; says what to do.
  """
  spec = dataset_spec(data_config)
  _check_split(spec, split)
  if spec.is_jpeg:
    from jaxmix.classification.datasets import imagenet_source

    return imagenet_source.open_split(
      data_config, split, spec, seed=seed, flip=flip
    )
  if data_config.name == 'digits':
    return ArraySource(load(data_config, split))
  from jaxmix.classification.datasets import array_records

  opened = array_records.open_split(_find(data_config), data_config.name, split)
  if len(opened) != spec.examples(split):
    keep = _balanced_subset(data_config, split, opened.read_labels())
    opened = dataclasses.replace(opened, indices=keep)
  return opened


def _find(data_config: Any) -> pathlib.Path:
  from jaxmix.classification.datasets import prepare

  return prepare.find(
    data_config.name,
    data_dir=data_config.dir,
    source=data_config.source,
    download=data_config.download,
  )


def _check_split(spec: DatasetSpec, split: str) -> None:
  if split not in spec.splits:
    raise ValueError(
      f'split={split!r} of {spec.name} must be one of {spec.splits}'
    )


def _subset_size(data_config: Any, split: str, available: int) -> int:
  field = f'{split}_examples'
  wanted = data_config[field]
  if not 0 <= wanted <= available:
    raise ValueError(
      f'config.data.{field}={wanted} must be from 0 (all) to {available}, the '
      f'number of {split} examples of {data_config.name}'
    )
  return wanted or available


def _balanced_subset(
  data_config: Any, split: str, labels: np.ndarray
) -> np.ndarray:
  """Returns the indices of the class-balanced subset, ascending."""
  wanted = data_config[f'{split}_examples']
  classes = DATASETS[data_config.name].num_classes
  each, more = divmod(wanted, classes)
  quota = each + (np.arange(classes) < more)
  counts = np.bincount(labels, minlength=classes)
  short = np.flatnonzero(counts < quota)
  if short.size:
    raise ValueError(
      f'config.data.{split}_examples={wanted} needs {quota[short[0]]} examples '
      f'of class {short[0]}, which has {counts[short[0]]}: use at most '
      f'{classes * counts.min()}, or 0 for all'
    )
  # The rank of an example among those of its class, in file order.
  order = np.argsort(labels, kind='stable')
  rank = np.empty(len(labels), np.int64)
  rank[order] = np.arange(len(labels)) - np.repeat(
    np.cumsum(counts) - counts, counts
  )
  return np.flatnonzero(rank < quota[labels])
