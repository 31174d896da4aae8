"""The records of a feature set: a TFDS builder, and reading them fast."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from jaxmix.files import untrusted
from jaxretrieval.feature_sets.captions import Captions, hashes
from jaxretrieval.feature_sets.checks import AGAIN, VERSION


def prepare(
  work: str,
  name: str,
  config: str,
  splits: Mapping[str, tuple[Captions, np.ndarray, np.ndarray]],
) -> pathlib.Path:
  """Writes a TFDS data set `<work>/<name>/<config>/<VERSION>`.

  Args:
    work: an empty folder.
    name: of the data set.
    config: its one config.
    splits: captions ordered by image, images float16 [N, Di], texts float16
      [M, Dt]; records keep the order of the images.
  """
  first = next(iter(splits.values()))

  class FeatureSet(_FeatureSet, skip_registration=True):
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)]

  FeatureSet.name = name
  builder = FeatureSet(
    splits=splits,
    dims=(first[1].shape[1], first[2].shape[1]),
    data_dir=work,
    file_format='array_record',
  )
  tfds.disable_progress_bar()  # its bars count files; ours count images
  with contextlib.redirect_stdout(None):  # it tells of the work folder
    builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)


class _FeatureSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, splits, dims, **kwargs):
    self._splits, self._dims = splits, dims
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    image_dim, text_dim = self._dims
    tensor = tfds.features.Tensor
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image_id': tensor(shape=(), dtype=np.int64),
          'image_name': tfds.features.Text(),
          'image': tensor(
            shape=(image_dim,), dtype=np.float16, encoding='bytes'
          ),
          'texts': tensor(
            shape=(None, text_dim), dtype=np.float16, encoding='bytes'
          ),
          'languages': tensor(shape=(None,), dtype=np.object_),
          'captions': tensor(shape=(None,), dtype=np.object_),
          'caption_hashes': tensor(shape=(None,), dtype=np.int64),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {key: self._generate_examples(key) for key in self._splits}

  def _generate_examples(self, key):
    captions, images, texts = self._splits[key]
    ends = np.cumsum(np.bincount(captions.image_index, minlength=len(images)))
    numbers = hashes(captions.texts)
    said = np.array([text.encode() for text in captions.texts], object)
    codes = np.array([code.encode() for code in captions.languages], object)
    for i in tqdm(range(len(images)), f'{self.name} {key}', delay=5):
      rows = slice(ends[i - 1] if i else 0, ends[i])
      yield (
        i,
        {
          'image_id': captions.image_ids[i],
          'image_name': captions.image_names[i],
          'image': images[i],
          'texts': texts[rows],
          'languages': codes[rows],
          'captions': said[rows],
          'caption_hashes': numbers[rows],
        },
      )


def read(
  folder: pathlib.Path,
  split: str,
  image_shape: tuple[int, int],
  text_shape: tuple[int, int],
) -> tuple[Captions, np.ndarray, np.ndarray]:
  """Reads a split that `prepare` wrote, as it was given.

  Args:
    folder: that `prepare` returned.
    split: name of the split.
    image_shape: (N, Di).
    text_shape: (M, Dt).

  Returns:
    Captions, images float16 [N, Di], texts float16 [M, Dt].

  Raises:
    ValueError: a file cannot be read, or does not hold so many features.
  """
  images = np.empty(image_shape, np.float16)
  texts = np.empty(text_shape, np.float16)
  ids, names, counts, codes, said = [], [], [], [], []
  with tqdm(total=len(images), desc=f'Reading {split}', delay=5) as bar:
    for block in _blocks(folder, split):
      _fill(images, len(ids), block, 'image', len(block))
      ids += [record['image_id'].int64_list.value[0] for record in block]
      names += [record['image_name'].bytes_list.value[0] for record in block]
      start = len(said)
      for record in block:
        some = record['captions'].bytes_list.value
        counts.append(len(some))
        said.extend(some)
        codes.extend(record['languages'].bytes_list.value)
      _fill(texts, start, block, 'texts', len(said) - start)
      bar.update(len(block))
  if (len(ids), len(said)) != (len(images), len(texts)):
    raise ValueError(
      f'{folder} holds {len(ids)} images and {len(said)} captions of {split}, '
      f'feature_set.json says {len(images)} and {len(texts)}: {AGAIN}'
    )
  captions = Captions(
    image_ids=np.array(ids, np.int64),
    image_names=[name.decode() for name in names],
    texts=[text.decode() for text in said],
    languages=[sys.intern(code.decode()) for code in codes],
    image_index=np.repeat(np.arange(len(ids), dtype=np.int32), counts),
  )
  return captions, images, texts


def _blocks(folder: pathlib.Path, split: str) -> Iterator[list[Any]]:
  """Blocks of records in order; each gives `record[name].bytes_list.value`.

  By hand: tfds' own way of decoding takes several times as long.
  """
  for name in 'dataset_info.json', 'features.json':
    # Reading a pipe would wait for ever.
    if not (folder / name).is_file():
      raise ValueError(
        f'{folder / name} is missing or no plain file: remove {folder} and '
        f'{AGAIN}'
      )
  try:
    builder: Any = untrusted.open_prepared(folder)
    source = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  except Exception as error:  # of protobuf, json and tfds
    raise ValueError(
      f'{folder} is described by dataset_info.json and features.json in a way '
      f'that tfds cannot read ({error!r}): remove it and {AGAIN}'
    ) from error
  parse = tf_example_pb2.Example.FromString  # pyright: ignore
  block = 1000  # keeps the records' own memory small
  for start in range(0, len(source), block):
    try:
      stop = min(start + block, len(source))
      records = source.__getitems__(range(start, stop))
    except RuntimeError as error:  # array_record's; seldom names the file
      raise ValueError(f'{folder} cannot be read: {error}') from error
    yield [parse(record).features.feature for record in records]


def _fill(
  array: np.ndarray, start: int, block: list[Any], field: str, rows: int
) -> None:
  """Puts the features of a block into `rows` rows of an array."""
  data = b''.join([record[field].bytes_list.value[0] for record in block])
  found = np.frombuffer(data, '<f2')
  into = array[start : start + rows]
  if found.size != into.size or len(into) != rows:
    raise ValueError(
      f'{field} features of the images from {start} on have {found.size} '
      f'numbers for {rows} rows of {array.shape[1]}, of {len(array)} in all: '
      f'they are not what feature_set.json says; {AGAIN}'
    )
  into[:] = found.reshape(into.shape)
