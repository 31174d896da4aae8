"""Reading a prepared data set: a split at random, or all of it into RAM.

The sets are those of `prepared`, whose `jaxmix.json` says what must
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

from jaxmix.classification.datasets import checks, inputs
from jaxmix.classification.datasets.archives import readers
from jaxmix.files import atomic, record_sets

RECORD = 'jaxmix.json'
_BLOCK = 5000  # records at a time: keeps their own memory small


def read_record(folder: pathlib.Path) -> dict[str, Any]:
  """Reads `jaxmix.json`: `source`, `splits` and `shards`.

  Raises:
    ValueError: it is not there, or not whole.
  """
  path = folder / RECORD
  try:
    record = record_sets.read_json(path)
    kept = {key: record[key] for key in ('source', 'splits', 'shards')}
    for split in kept['splits'].values():
      _ = split['sha256']
    for name, shard in kept['shards'].items():
      inputs.check_file_name(path, name)
      _ = shard['bytes'], shard['sha256']
    return kept
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is missing or broken ({error!r}): {record_sets.again(folder)}'
    ) from error


@dataclasses.dataclass(frozen=True)
class RecordSource:
  """Random access to one split on disk; `open_split` makes it.

  Attributes:
    folder: of the prepared data set.
    records: random access to serialised examples.
    features: decodes tfds' own records; None for ours.
    shards: the files of the split.
    layout: what is known of the data set.
    content: a sha256 of what is in the split; empty if that was not read.
    indices: the examples to show, ascending; None for all.
  """

  folder: pathlib.Path
  records: Any
  features: Any
  shards: record_sets.Shards
  layout: readers.Layout
  content: str
  indices: np.ndarray | None = None

  @property
  def digest(self) -> str:
    """A sha256 of the examples that are shown."""
    if self.indices is None:
      return self.content
    chosen = self.indices.astype('<i8').tobytes()
    return hashlib.sha256(self.content.encode() + chosen).hexdigest()

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
    decoded = zip(keys, self.read_records(keys), strict=True)
    return [self._checked(key, self._decode, record) for key, record in decoded]

  def read_records(self, keys: list[int]) -> list[bytes]:
    """Reads serialised examples by their place in the split.

    Raises:
      ValueError: a record is damaged; names its file.
    """
    try:
      return self.records.__getitems__(keys)
    except RuntimeError:  # array_record's; seldom names the file, or the record
      return [self._checked(key, self.records.__getitem__, key) for key in keys]

  def read_labels(self) -> np.ndarray:
    """All labels of the split, int64 [N]; no image is decoded."""
    labels = np.empty(len(self.records), np.int64)
    for start in range(0, len(labels), _BLOCK):
      keys = list(range(start, min(start + _BLOCK, len(labels))))
      for key, record in zip(keys, self.read_records(keys), strict=True):
        labels[key] = self._checked(key, _read_label, record)
    return labels

  def _checked(self, key: int, function: Any, argument: Any) -> Any:
    try:
      return function(argument)
    except Exception as error:  # of array_record, protobuf and decoders
      raise ValueError(
        f'{self.shards.place(key)} is damaged: {error}; '
        f'{record_sets.again(self.folder)}'
      ) from error

  def _decode(self, record: bytes) -> dict[str, Any]:
    layout = self.layout
    if self.features is not None:
      example = self.features.deserialize_example_np(record)
      value, label = example[layout.feature], example['label']
    else:
      # By hand: tfds' own way takes 4 s for 50,000 examples, this .5 s.
      example = tf_example_pb2.Example()  # pyright: ignore
      feature = example.FromString(record).features.feature
      value = feature[layout.feature].bytes_list.value[0]
      value = np.frombuffer(value, layout.dtype).reshape(layout.shape)
      (label,) = feature['label'].int64_list.value
    checks.check_label(label, layout.classes)
    return {layout.feature: value, 'label': np.int32(label)}


def _read_label(record: bytes) -> int:
  feature = tf_example_pb2.Example.FromString(record).features.feature  # pyright: ignore
  (label,) = feature['label'].int64_list.value
  return label


def open_split(
  folder: pathlib.Path, name: str, split: str, *, whole: bool = True
) -> RecordSource:
  """Opens a split of a folder that `find` returned.

  Args:
    folder: of the data set.
    name: of the data set, one of `published`.
    split: 'train', 'test' or another that it has.
    whole: whether its files are read once now: of a set that we prepared the
      sha256 (.15 s), of tfds' own the labels (a second); else their sizes and
      descriptions are checked alone.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file or a description is not as prepared, or the examples are
      not those of the data set: their number, dtypes, shapes or labels.
  """
  builder = record_sets.open_set(folder)
  layout = readers.layout(name)
  ours = builder.name == layout.store
  if ours:
    _check_shards(folder, sums=whole)
  checks.check_features(
    folder,
    builder.info.features,
    layout.shape,
    layout.classes,
    feature=layout.feature,
    dtype=layout.dtype,
  )
  files = record_sets.check_shards(builder, split)
  records = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  if len(records) != (expected := layout.examples(split)):
    raise ValueError(
      f'{folder} has {len(records)} {split} examples, expected {expected}'
    )
  features = None if ours else builder.info.features
  source = RecordSource(folder, records, features, files, layout, '')
  if ours:
    content = read_record(folder)['splits'][split]['sha256']
    return dataclasses.replace(source, content=content)
  if not whole:
    return source
  _check_labels(source, split, source.read_labels())
  sums = [atomic.file_fingerprint(path) for path in files.paths]
  content = hashlib.sha256(' '.join(sums).encode()).hexdigest()
  return dataclasses.replace(source, content=content)


def load_split(
  folder: pathlib.Path, name: str, split: str
) -> dict[str, np.ndarray]:
  """Reads a split into RAM: {'image' or 'audio': [N, ...], 'label': [N]}.

  Raises:
    ValueError: as `open_split`; or, for a set that we prepared, the arrays are
      not those that were prepared.
  """
  source = open_split(folder, name, split, whole=False)
  arrays = read_all(source)
  if source.features is None:
    if arrays_sha256(arrays) != source.content:
      _check_shards(folder)
      raise ValueError(f'{folder}: {split} is not what {RECORD} says of it')
  else:
    _check_labels(source, split, arrays['label'])
  return arrays


def _check_labels(source: RecordSource, split: str, labels: np.ndarray) -> None:
  layout = source.layout
  each = None if layout.per_class is None else layout.per_class[split]
  place = f'{source.folder} {split}'
  checks.check_labels(place, labels, layout.classes, each)


def read_all(source: Any) -> dict[str, np.ndarray]:
  """Reads all that a `RecordSource` shows: {'image' or 'audio', 'label'}."""
  layout = source.layout
  values = np.empty((len(source), *layout.shape), layout.dtype)
  labels = np.empty(len(source), np.int32)
  for start in range(0, len(source), _BLOCK):
    keys = range(start, min(start + _BLOCK, len(source)))
    for i, example in zip(keys, source.__getitems__(keys), strict=True):
      values[i], labels[i] = example[layout.feature], example['label']
  return {layout.feature: values, 'label': labels}


def _check_shards(folder: pathlib.Path, sums: bool = True):
  """Raises ValueError naming the first shard that is not as prepared."""
  for name, wanted in read_record(folder)['shards'].items():
    path = folder / name
    size = record_sets.check_file(path)
    if size != wanted['bytes'] or (
      sums and atomic.file_fingerprint(path) != wanted['sha256']
    ):
      raise ValueError(
        f'{path} ({size} bytes, expected {wanted["bytes"]}) is not the file '
        f'that was prepared: {record_sets.again(folder)}'
      )


def arrays_sha256(arrays: dict[str, np.ndarray]) -> str:
  """The sha256 of a split: all images or sounds, then all labels."""
  (values,) = (array for name, array in arrays.items() if name != 'label')
  digest = hashlib.sha256(values.data)
  digest.update(arrays['label'].astype('<i4').data)
  return digest.hexdigest()
