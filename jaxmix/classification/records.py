"""Reading a prepared CIFAR: a split at random, or all of it into RAM.

The sets are those that `datasets` prepares, whose `jaxmix.json` says what must
be in them, and tfds' own where they are stored as ArrayRecord.
"""

import dataclasses
import hashlib
import operator
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jaxmix.classification import archives, inputs

NAME = 'jaxmix_cifar'  # of the sets that we prepare
RECORD = 'jaxmix.json'


def read_record(folder: pathlib.Path) -> dict[str, Any]:
  """Reads `jaxmix.json`: `source`, `splits` and `shards`.

  Raises:
    ValueError: it is not there, or not whole.
  """
  path = folder / RECORD
  try:
    record = inputs.read_json(path)
    for name in record['shards'].keys():
      inputs.check_file_name(path, name)
    return {key: record[key] for key in ('source', 'splits', 'shards')}
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is missing or broken ({error!r}): remove {folder} to have it '
      'prepared again'
    ) from error


@dataclasses.dataclass(frozen=True)
class RecordSource:
  """Random access to one split on disk; `open_split` makes it.

  Attributes:
    folder: of the prepared data set.
    records: random access to serialised examples.
    features: decodes tfds' own records; None for ours.
    indices: the examples to show, ascending; None for all.
  """

  folder: pathlib.Path
  records: Any
  features: Any
  indices: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.records if self.indices is None else self.indices)

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    return self.__getitems__([index])[0]

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    # The range counts negative indices from the end and knows its bounds.
    keys = [range(len(self))[operator.index(index)] for index in indices]
    if not keys:
      return []
    if self.indices is not None:
      keys = self.indices[keys].tolist()
    try:
      records = self.records.__getitems__(keys)
    except RuntimeError as error:  # array_record's; seldom names the file
      if self.features is None:
        _check_shards(self.folder)
      raise ValueError(f'{self.folder} cannot be read: {error}') from error
    return [self._decode(record) for record in records]

  def _decode(self, record: bytes) -> dict[str, Any]:
    if self.features is not None:
      example = self.features.deserialize_example_np(record)
      return {'image': example['image'], 'label': np.int32(example['label'])}
    # By hand: tfds' own way takes 4 s for 50,000 examples, this half a second.
    example = tf_example_pb2.Example()  # pyright: ignore
    feature = example.FromString(record).features.feature
    image = np.frombuffer(feature['image'].bytes_list.value[0], np.uint8)
    return {
      'image': image.reshape(archives.SHAPE),
      'label': np.int32(feature['label'].int64_list.value[0]),
    }


def open_split(folder: pathlib.Path, name: str, split: str) -> RecordSource:
  """Opens a split of a folder that `find` returned.

  Raises:
    ValueError: a shard is missing or has another size, or the number of
      examples is not that of the data set.
  """
  builder: Any = inputs.open_prepared(folder)
  for path in builder.info.splits[split].filepaths:
    _size(pathlib.Path(path))
  ours = builder.name == NAME
  if ours:
    _check_shards(folder, sums=False)
  records = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  if len(records) != (expected := archives.LAYOUTS[name].examples(split)):
    raise ValueError(
      f'{folder} has {len(records)} {split} examples, expected {expected}'
    )
  return RecordSource(folder, records, None if ours else builder.info.features)


def load_split(
  folder: pathlib.Path, name: str, split: str
) -> dict[str, np.ndarray]:
  """Reads a split into RAM: {'image': [N, 32, 32, 3], 'label': [N]}.

  Raises:
    ValueError: as `open_split`; or, for a set that we prepared, the arrays are
      not those that were prepared.
  """
  source = open_split(folder, name, split)
  images = np.empty((len(source), *archives.SHAPE), np.uint8)
  labels = np.empty(len(source), np.int32)
  block = 5000  # keeps the records' own memory small
  for start in range(0, len(source), block):
    keys = range(start, min(start + block, len(source)))
    for i, example in zip(keys, source.__getitems__(keys), strict=True):
      images[i], labels[i] = example['image'], example['label']
  arrays = {'image': images, 'label': labels}
  if source.features is None:
    wanted = read_record(folder)['splits'][split]['sha256']
    if arrays_sha256(arrays) != wanted:
      _check_shards(folder)
      raise ValueError(f'{folder}: {split} is not what {RECORD} says of it')
  return arrays


def _check_shards(folder: pathlib.Path, sums: bool = True):
  """Raises ValueError naming the first shard that is not as prepared."""
  for name, wanted in read_record(folder)['shards'].items():
    path = folder / name
    size = _size(path)
    if size != wanted['bytes'] or (
      sums and archives.file_digest(path, 'sha256') != wanted['sha256']
    ):
      raise ValueError(
        f'{path} ({size} bytes, expected {wanted["bytes"]}) is not the file '
        f'that was prepared: remove {folder} to prepare it again'
      )


def _size(path: pathlib.Path) -> int:
  if not path.is_file():
    raise ValueError(
      f'{path} is missing: remove {path.parent} to prepare it again'
    )
  return path.stat().st_size


def arrays_sha256(arrays: dict[str, np.ndarray]) -> str:
  """The sha256 of a split: all images, then all labels."""
  digest = hashlib.sha256(arrays['image'].data)
  digest.update(arrays['label'].astype('<i4').data)
  return digest.hexdigest()
