"""Records of a feature set: a TFDS builder, and a fast reader."""

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
from jaxretrieval.feature_sets.checks import REBUILD_HINT, VERSION


def prepare(
  work: str,
  name: str,
  config: str,
  splits: Mapping[str, tuple[Captions, np.ndarray, np.ndarray]],
) -> pathlib.Path:
  """Writes a TFDS data set and returns its folder.

  Args:
    work: an empty folder; the set goes to `<work>/<name>/<config>/<VERSION>`.
    name: name of the data set.
    config: name of its builder config.
    splits: for each split captions sorted by image, images float16 [N, Di] and
      texts float16 [M, Dt]; records keep the order of the images.
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
  tfds.disable_progress_bar()  # its bars count files; ours counts images
  with contextlib.redirect_stdout(None):  # it prints the temporary folder
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
    caption_hashes = hashes(captions.texts)
    texts_utf8 = np.array([text.encode() for text in captions.texts], object)
    languages = np.array([code.encode() for code in captions.languages], object)
    for i in tqdm(range(len(images)), f'{self.name} {key}', delay=5):
      rows = slice(ends[i - 1] if i else 0, ends[i])
      yield (
        i,
        {
          'image_id': captions.image_ids[i],
          'image_name': captions.image_names[i],
          'image': images[i],
          'texts': texts[rows],
          'languages': languages[rows],
          'captions': texts_utf8[rows],
          'caption_hashes': caption_hashes[rows],
        },
      )


def read(
  folder: pathlib.Path,
  split: str,
  image_shape: tuple[int, int],
  text_shape: tuple[int, int],
) -> tuple[Captions, np.ndarray, np.ndarray]:
  """Reads a split that `prepare` wrote.

  Args:
    folder: folder that `prepare` returned.
    split: name of the split.
    image_shape: (N, Di).
    text_shape: (M, Dt).

  Returns:
    Captions, images float16 [N, Di], texts float16 [M, Dt].

  Raises:
    ValueError: a file cannot be read, or has another number of features.
  """
  images = np.empty(image_shape, np.float16)
  texts = np.empty(text_shape, np.float16)
  ids, names, counts, languages, captions = [], [], [], [], []
  with tqdm(total=len(images), desc=f'Reading {split}', delay=5) as bar:
    for batch in _batches(folder, split):
      _fill(images, len(ids), batch, 'image', len(batch))
      ids += [record['image_id'].int64_list.value[0] for record in batch]
      names += [record['image_name'].bytes_list.value[0] for record in batch]
      start = len(captions)
      for record in batch:
        values = record['captions'].bytes_list.value
        counts.append(len(values))
        captions.extend(values)
        languages.extend(record['languages'].bytes_list.value)
      _fill(texts, start, batch, 'texts', len(captions) - start)
      bar.update(len(batch))
  if (len(ids), len(captions)) != (len(images), len(texts)):
    raise ValueError(
      f'{folder} holds {len(ids)} images and {len(captions)} captions of '
      f'{split}, but feature_set.json declares {len(images)} and {len(texts)}: '
      f'{REBUILD_HINT}'
    )
  result = Captions(
    image_ids=np.array(ids, np.int64),
    image_names=[name.decode() for name in names],
    texts=[text.decode() for text in captions],
    languages=[sys.intern(code.decode()) for code in languages],
    image_index=np.repeat(np.arange(len(ids), dtype=np.int32), counts),
  )
  return result, images, texts


def _batches(folder: pathlib.Path, split: str) -> Iterator[list[Any]]:
  """Yields batches of parsed records in order.

  Records are parsed here, because TFDS decoding takes several times as long.
  """
  for name in 'dataset_info.json', 'features.json':
    # Reading a pipe would block forever.
    if not (folder / name).is_file():
      raise ValueError(
        f'{folder / name} is missing or is not a regular file: remove {folder} '
        f'and {REBUILD_HINT}'
      )
  try:
    builder: Any = untrusted.open_prepared(folder)
    source = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  except Exception as error:  # errors of protobuf, json and tfds
    raise ValueError(
      f'tfds cannot read dataset_info.json and features.json of {folder} '
      f'({error!r}): remove it and {REBUILD_HINT}'
    ) from error
  parse = tf_example_pb2.Example.FromString  # pyright: ignore
  batch_size = 1000  # bounds the memory of the serialized records
  for start in range(0, len(source), batch_size):
    try:
      stop = min(start + batch_size, len(source))
      records = source.__getitems__(range(start, stop))
    except RuntimeError as error:  # of array_record; it may not name the file
      raise ValueError(f'{folder} cannot be read: {error}') from error
    yield [parse(record).features.feature for record in records]


def _fill(
  array: np.ndarray, start: int, batch: list[Any], field: str, rows: int
) -> None:
  """Copies the features of a batch of records into `rows` rows of an array."""
  data = b''.join([record[field].bytes_list.value[0] for record in batch])
  values = np.frombuffer(data, '<f2')
  target = array[start : start + rows]
  if values.size != target.size or len(target) != rows:
    raise ValueError(
      f'{field!r} from row {start} on holds {values.size} numbers, '
      f'but feature_set.json declares {len(target)} rows of {array.shape[1]} '
      f'(of {len(array)} in total): {REBUILD_HINT}'
    )
  target[:] = values.reshape(target.shape)
