"""ImageNet from a prepared TFDS data set: photographs decoded as they are read.

The set is what `imagenet_tars` makes of the publisher's archives, or tfds' own
`imagenet2012` stored as ArrayRecord: JPEG files and labels. Nothing of it is
kept in memory. How a crop is drawn and decoded is told in `jpeg`.
"""

import dataclasses
import operator
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jaxmix.classification.datasets import checks, jpeg, prepare
from jaxmix.files import record_sets

NAME = 'imagenet2012'
SPLITS = {'train': 'train', 'test': 'validation'}


@dataclasses.dataclass(frozen=True)
class PhotoSource:
  """A split whose photographs are cropped to one size; `open_split` makes it.

  Attributes:
    shards: the files of the split.
    records: random access to serialised examples.
    examples: how many of them are shown, the first ones.
    shape: `(H, W, 3)` of the crops.
    workers: threads that should read at once.
    random: random crops, drawn anew in every epoch; else the middle.
    seed: of the crops.
    flip: whether half of the random crops are mirrored.
    classes: labels are 0..classes-1.
    digest: a sha256 of what the files are called and how large they are.
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
  digest: str | None = None

  def __len__(self) -> int:
    return self.examples

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    """The example at `index`, as it is seen in epoch 0."""
    return self.__getitems__([index])[0]

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    # The range counts negative indices from the end and knows its bounds.
    keys = [range(len(self))[operator.index(index)] for index in indices]
    batch = self.read(np.array(keys, int), np.zeros(len(keys), int))
    return [
      {'image': image, 'label': label}
      for image, label in zip(batch['image'], batch['label'], strict=True)
    ]

  def read(
    self, indices: np.ndarray, epochs: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Reads examples as they are seen in some epochs.

    In epoch 0 every photograph is decoded whole, so that damage anywhere in it
    is found; it changes no pixel.

    Args:
      indices: `[n]`, from 0.
      epochs: `[n]`.

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
          f'{self.shards.place(index)} is damaged: {error}'
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


def find(data_dir: str) -> pathlib.Path:
  """Returns the folder of the newest prepared version.

  Raises:
    FileNotFoundError: there is none; says what is expected.
    ValueError: its description is broken.
  """
  root = prepare.find_root(data_dir)
  folder, remark = record_sets.find_newest(root, NAME)
  if folder:
    return folder
  raise FileNotFoundError(
    f'there is no {root}/{NAME}/<version> with a TFDS data set stored as '
    "ArrayRecord: features 'image' (JPEG files) and 'label', splits 'train' "
    "and 'validation'. Set config.data.dir to the folder around "
    f'{NAME}/; python -m jaxmix.classification.datasets.imagenet_tars writes '
    f"one from the publisher's archives (see docs/imagenet.md).{remark}"
  )


def open_split(
  data_config: Any,
  split: str,
  shape: tuple[int, int, int],
  num_classes: int,
  *,
  seed: int,
  flip: bool,
) -> PhotoSource:
  """Opens a split: 'train' shows random crops, 'test' the middle.

  Args:
    data_config: `config.data`, see `data`.
    split: 'train' or 'test'.
    shape: `(H, W, 3)` of the crops.
    num_classes: labels are 0..num_classes-1.
    seed: of the crops.
    flip: whether half of the random crops are mirrored.

  Raises:
    FileNotFoundError: there is no prepared data set, or it lacks a file.
    ValueError: it is not the data set, a file of it is not whole, or it has
      fewer examples than asked for.
  """
  if type(data_config.workers) is not int or data_config.workers < 0:
    raise ValueError(
      f'config.data.workers={data_config.workers!r} must be an integer: 1 or '
      'more threads, or 0 for one on each core'
    )
  folder, name = find(data_config.dir), SPLITS[split]
  builder = record_sets.open_set(folder)
  checks.check_features(
    folder, builder.info.features, (None, None, shape[2]), num_classes
  )
  files = record_sets.check_shards(builder, name)
  records = builder.as_data_source(
    name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  wanted = data_config[f'{split}_examples']
  if wanted > len(records):
    raise ValueError(
      f'config.data.{split}_examples={wanted}: {folder} has {len(records)} '
      f'in {name!r} (0 takes all)'
    )
  return PhotoSource(
    shards=files,
    records=records,
    examples=wanted or len(records),
    shape=shape,
    workers=data_config.workers or len(os.sched_getaffinity(0)),
    random=split == 'train',
    seed=seed,
    flip=flip,
    classes=num_classes,
    digest=record_sets.names_digest(folder, files),
  )
