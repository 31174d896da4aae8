"""Splits of a prepared data set: random access on disk, or arrays in memory.

The sets are those of `prepare`, whose `jaxmix.json` has the fingerprints of
their content, and tfds' own if they are stored as ArrayRecord.
"""

import dataclasses
import hashlib
import operator
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jaxmix.classification.datasets import checks
from jaxmix.classification.datasets.specs import DATASETS, DatasetSpec
from jaxmix.files import atomic, record_sets, untrusted

RECORD = 'jaxmix.json'
_CHUNK = 5000  # records at a time, which bounds their own memory


def read_record(folder: pathlib.Path) -> dict[str, Any]:
  """Reads `jaxmix.json`: `source`, `splits` and `shards`.

  Raises:
    ValueError: it is missing or damaged.
  """
  path = folder / RECORD
  try:
    record = record_sets.read_json(path)
    kept = {key: record[key] for key in ('source', 'splits', 'shards')}
    for split in kept['splits'].values():
      _ = split['sha256']
    for name, shard in kept['shards'].items():
      untrusted.check_file_name(path, name)
      _ = shard['bytes'], shard['sha256']
    return kept
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is missing or damaged ({error!r}): '
      f'{record_sets.prepare_again(folder)}'
    ) from error


@dataclasses.dataclass(frozen=True)
class RecordSource:
  """Random access to one split on disk; made by `open_split`.

  Attributes:
    folder: of the prepared data set.
    records: random access to serialised examples.
    features: decodes tfds' own records; None for ours.
    shards: the files of the split.
    spec: of the data set.
    split_sha256: of the whole split; empty if it was not read.
    indices: of the subset, ascending; None for all examples.
  """

  folder: pathlib.Path
  records: Any
  features: Any
  shards: record_sets.Shards
  spec: DatasetSpec
  split_sha256: str
  indices: np.ndarray | None = None

  @property
  def fingerprint(self) -> str:
    """The sha256 of the examples of the subset."""
    if self.indices is None:
      return self.split_sha256
    subset = self.indices.astype('<i8').tobytes()
    return hashlib.sha256(self.split_sha256.encode() + subset).hexdigest()

  def __len__(self) -> int:
    return len(self.records if self.indices is None else self.indices)

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    return self.__getitems__([index])[0]

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    # Indexing a range resolves negative indices and checks the bounds.
    keys = [range(len(self))[operator.index(index)] for index in indices]
    if not keys:
      return []
    if self.indices is not None:
      keys = self.indices[keys].tolist()
    decoded = zip(keys, self.read_records(keys), strict=True)
    return [self._checked(key, self._decode, record) for key, record in decoded]

  def read_records(self, keys: list[int]) -> list[bytes]:
    """Reads serialised examples by their index in the split.

    Raises:
      ValueError: a record is damaged; names its file.
    """
    try:
      return self.records.__getitems__(keys)
    except RuntimeError:  # of array_record, which seldom names the file
      return [self._checked(key, self.records.__getitem__, key) for key in keys]

  def read_labels(self) -> np.ndarray:
    """Returns all labels of the split, int64 [N]; decodes no image."""
    labels = np.empty(len(self.records), np.int64)
    for start in range(0, len(labels), _CHUNK):
      keys = list(range(start, min(start + _CHUNK, len(labels))))
      for key, record in zip(keys, self.read_records(keys), strict=True):
        labels[key] = self._checked(key, _read_label, record)
    return labels

  def _checked(self, key: int, function: Any, argument: Any) -> Any:
    try:
      return function(argument)
    except Exception as error:  # of array_record, protobuf and decoders
      raise ValueError(
        f'{self.shards.locate(key)} is damaged ({error}): '
        f'{record_sets.prepare_again(self.folder)}'
      ) from error

  def _decode(self, record: bytes) -> dict[str, Any]:
    spec = self.spec
    if self.features is not None:
      example = self.features.deserialize_example_np(record)
      value, label = example[spec.feature], example['label']
    else:
      # Not by tfds, which takes 4 s for 50,000 examples instead of 0.5 s.
      example = tf_example_pb2.Example()  # pyright: ignore
      feature = example.FromString(record).features.feature
      value = feature[spec.feature].bytes_list.value[0]
      value = np.frombuffer(value, spec.dtype).reshape(spec.shape)
      (label,) = feature['label'].int64_list.value
    checks.check_label(label, spec.num_classes)
    return {spec.feature: value, 'label': np.int32(label)}


def _read_label(record: bytes) -> int:
  feature = tf_example_pb2.Example.FromString(record).features.feature  # pyright: ignore
  (label,) = feature['label'].int64_list.value
  return label


def open_split(
  folder: pathlib.Path, name: str, split: str, *, verify: bool = True
) -> RecordSource:
  """Opens a split of a prepared data set.

  Args:
    folder: of the data set, as returned by `prepare.find`.
    name: of the data set, a key of `DATASETS`.
    split: 'train', 'test' or another that it has.
    verify: whether its files are read once: for a set that we prepared to
      verify the fingerprints (0.15 s), for tfds' own to check the labels (a
      second). Else only sizes and descriptions are checked.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file or a description is not as prepared, or the examples are
      not those of the data set: their number, dtypes, shapes or labels.
  """
  builder = record_sets.open_set(folder)
  spec = DATASETS[name]
  ours = builder.name == spec.builder
  if ours:
    _check_shards(folder, fingerprints=verify)
  checks.check_features(
    folder,
    builder.info.features,
    spec.shape,
    spec.num_classes,
    feature=spec.feature,
    dtype=spec.dtype,
  )
  shards = record_sets.check_shards(builder, split)
  records = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  if len(records) != (expected := spec.examples(split)):
    raise ValueError(
      f'{folder} has {len(records)} {split} examples, expected {expected}'
    )
  features = None if ours else builder.info.features
  source = RecordSource(folder, records, features, shards, spec, '')
  if ours:
    sha256 = read_record(folder)['splits'][split]['sha256']
    return dataclasses.replace(source, split_sha256=sha256)
  if not verify:
    return source
  _check_labels(source, split, source.read_labels())
  fingerprints = [atomic.file_fingerprint(path) for path in shards.paths]
  sha256 = hashlib.sha256(' '.join(fingerprints).encode()).hexdigest()
  return dataclasses.replace(source, split_sha256=sha256)


def load_split(
  folder: pathlib.Path, name: str, split: str
) -> dict[str, np.ndarray]:
  """Reads a split into memory: {'image' or 'audio': [N, ...], 'label': [N]}.

  Raises:
    FileNotFoundError, ValueError: see `open_split`; or the arrays of a set that
      we prepared are not those that were prepared.
  """
  source = open_split(folder, name, split, verify=False)
  arrays = read_all(source)
  if source.features is None:
    if arrays_fingerprint(arrays) != source.fingerprint:
      _check_shards(folder)
      raise ValueError(
        f'{folder}: the {split} split does not have the fingerprint of '
        f'{RECORD}: {record_sets.prepare_again(folder)}'
      )
  else:
    _check_labels(source, split, arrays['label'])
  return arrays


def _check_labels(source: RecordSource, split: str, labels: np.ndarray) -> None:
  spec = source.spec
  label = f'{source.folder} {split}'
  checks.check_labels(label, labels, spec.num_classes, spec.per_class(split))


def read_all(source: Any) -> dict[str, np.ndarray]:
  """Reads all examples of a `RecordSource`: {'image' or 'audio', 'label'}."""
  spec = source.spec
  values = np.empty((len(source), *spec.shape), spec.dtype)
  labels = np.empty(len(source), np.int32)
  for start in range(0, len(source), _CHUNK):
    keys = range(start, min(start + _CHUNK, len(source)))
    for i, example in zip(keys, source.__getitems__(keys), strict=True):
      values[i], labels[i] = example[spec.feature], example['label']
  return {spec.feature: values, 'label': labels}


def _check_shards(folder: pathlib.Path, fingerprints: bool = True) -> None:
  """Raises ValueError naming the first shard that is not as prepared."""
  for name, expected in read_record(folder)['shards'].items():
    path = folder / name
    size = record_sets.check_file(path)
    if size != expected['bytes'] or (
      fingerprints and atomic.file_fingerprint(path) != expected['sha256']
    ):
      raise ValueError(
        f'{path} ({size} bytes, expected {expected["bytes"]}) is not the file '
        f'that was prepared: {record_sets.prepare_again(folder)}'
      )


def arrays_fingerprint(arrays: dict[str, np.ndarray]) -> str:
  """Returns the sha256 of a split: all images or audio, then all labels."""
  (values,) = (array for name, array in arrays.items() if name != 'label')
  fingerprint = hashlib.sha256(values.data)
  fingerprint.update(arrays['label'].astype('<i4').data)
  return fingerprint.hexdigest()
