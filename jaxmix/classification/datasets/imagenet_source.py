"""Source of ImageNet: JPEG images of a TFDS data set, decoded as they are read.

The set is prepared by `imagenet_tars` from the publisher's archives, or is
tfds' own `imagenet2012` stored as ArrayRecord: JPEG files and labels. Nothing
of it is kept in memory. `jpeg` draws and decodes the crops.
"""

import dataclasses
import operator
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jaxmix.classification.datasets import checks, jpeg
from jaxmix.classification.datasets.specs import DatasetSpec
from jaxmix.files import record_sets

SPLITS = {'train': 'train', 'test': 'validation'}


@dataclasses.dataclass(frozen=True)
class JpegSource:
  """A split whose images are cropped to one size; made by `open_split`.

  Attributes:
    shards: the files of the split.
    records: random access to serialised examples.
    examples: length of the source, which has the first ones of the split.
    shape: `(H, W, 3)` of the crops.
    workers: number of threads that should read at once.
    random: whether crops are random, other ones in each epoch; else the center
      crop is read.
    seed: of the crops.
    flip: whether half of the random crops are mirrored.
    classes: labels are 0..classes-1.
    fingerprint: sha256 of the names and sizes of the files.
  """

  shards: record_sets.Shards
  records: Any
  examples: int
  shape: tuple[int, int, int]
  workers: int
  random: bool
  seed: int
  flip: bool
  classes: int = 1000
  fingerprint: str | None = None

  def __len__(self) -> int:
    return self.examples

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    """Returns the example at `index` with its crop of epoch 0."""
    return self.__getitems__([index])[0]

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    # Indexing a range resolves negative indices and checks the bounds.
    keys = [range(len(self))[operator.index(index)] for index in indices]
    batch = self.read(np.array(keys, int), np.zeros(len(keys), int))
    return [
      {'image': image, 'label': label}
      for image, label in zip(batch['image'], batch['label'], strict=True)
    ]

  def read(
    self, indices: np.ndarray, epochs: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Reads examples with their crops of some epochs.

    In epoch 0 every image is decoded completely, so that damage anywhere in it
    is found; it changes no pixel.

    Args:
      indices: `[n]`, from 0.
      epochs: `[n]`, the epoch of each.

    Returns:
      {'image': uint8 `[n, H, W, 3]`, 'label': int32 `[n]`}.

    Raises:
      ValueError: a record cannot be read or decoded; names it.
    """
    images = np.empty((len(indices), *self.shape), np.uint8)
    labels = np.empty(len(indices), np.int32)
    visits = list(zip(indices.tolist(), epochs.tolist(), strict=True))
    for i, (index, epoch) in enumerate(visits):
      try:
        record = self.records[index]
        feature = tf_example_pb2.Example.FromString(record).features.feature  # pyright: ignore
        (labels[i],) = feature['label'].int64_list.value
        checks.check_label(labels[i], self.classes)
        (data,) = feature['image'].bytes_list.value
        self._decode(data, index, epoch, images[i])
      except Exception as error:  # of array_record, protobuf and the decoders
        raise ValueError(
          f'{self.shards.locate(index)} is damaged: {error}'
        ) from error
    return {'image': images, 'label': labels}

  def _decode(self, data: bytes, index: int, epoch: int, out: np.ndarray):
    frame = jpeg.read_frame(data)
    if not self.random:
      jpeg.center_crop(data, frame, out)
      return
    crop = jpeg.random_resized_crop(
      self.seed, epoch, index, frame.height, frame.width, flip=self.flip
    )
    jpeg.read_crop(data, frame, crop, out, whole=epoch == 0)


def find(data_dir: str, name: str) -> pathlib.Path:
  """Returns the folder of the newest prepared version.

  Args:
    data_dir: `config.data.dir`.
    name: of the TFDS builder, 'imagenet2012'.

  Raises:
    FileNotFoundError: there is none; says what is expected.
    ValueError: its description is damaged.
  """
  root = record_sets.find_root(data_dir)
  folder, remark = record_sets.find_newest(root, name)
  if folder:
    return folder
  raise FileNotFoundError(
    f'{root}/{name}/<version> does not exist. It must be a TFDS data set '
    "stored as ArrayRecord, with the features 'image' (JPEG files) and 'label' "
    "and the splits 'train' and 'validation'. Set config.data.dir to the "
    f'folder around {name}/; python -m '
    'jaxmix.classification.datasets.imagenet_tars prepares it from '
    f"the publisher's archives (see docs/imagenet.md).{remark}"
  )


def open_split(
  data_config: Any, split: str, spec: DatasetSpec, *, seed: int, flip: bool
) -> JpegSource:
  """Opens a split: 'train' has random crops, 'test' center crops.

  Args:
    data_config: `config.data`, see `splits`.
    split: 'train' or 'test'.
    spec: of the data set; `image_shape` is that of the crops.
    seed: of the crops.
    flip: whether half of the random crops are mirrored.

  Raises:
    FileNotFoundError: there is no prepared data set, or it lacks a file.
    ValueError: it is not the data set, a file is damaged, or it has fewer
      examples than the config asks for.
  """
  if type(data_config.workers) is not int or data_config.workers < 0:
    raise ValueError(
      f'config.data.workers={data_config.workers!r} must be an integer: 1 or '
      'more threads, or 0 for one per core'
    )
  folder, name = find(data_config.dir, spec.builder), SPLITS[split]
  builder = record_sets.open_set(folder)
  checks.check_features(
    folder,
    builder.info.features,
    (None, None, spec.image_shape[2]),
    spec.num_classes,
  )
  shards = record_sets.check_shards(builder, name)
  records = builder.as_data_source(
    name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  wanted = data_config[f'{split}_examples']
  if wanted > len(records):
    raise ValueError(
      f'config.data.{split}_examples={wanted} exceeds the {len(records)} '
      f'examples of {name!r} in {folder}: use fewer, or 0 for all'
    )
  return JpegSource(
    shards=shards,
    records=records,
    examples=wanted or len(records),
    shape=spec.image_shape,
    workers=data_config.workers or len(os.sched_getaffinity(0)),
    random=split == 'train',
    seed=seed,
    flip=flip,
    classes=spec.num_classes,
    fingerprint=record_sets.files_fingerprint(folder, shards),
  )
