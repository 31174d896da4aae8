"""Writer of record sets: TFDS data sets, without TensorFlow."""

import contextlib
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tqdm import tqdm

SHARD_BYTES = 2**28  # bytes of examples that go into one file


class Split(NamedTuple):
  """A split to be written.

  Attributes:
    examples: `{feature: value}` of each example, in order.
    lengths: number of examples in each file, 1 or more; see `even_lengths`.
  """

  examples: Iterable[Mapping[str, Any]]
  lengths: list[int]


def write_set(
  root: pathlib.Path,
  name: str,
  version: str,
  features: Any,
  splits: Mapping[str, Split],
  *,
  config_name: str | None = None,
  compressed: bool = True,
) -> pathlib.Path:
  """Writes a TFDS data set as ArrayRecord files, one example at a time.

  The writer of tfds keeps what it writes in memory, and needs TensorFlow for
  more than a gigabyte.

  Args:
    root: the set goes to `<root>/<name>[/<config_name>]/<version>`.
    name: of the data set.
    version: of the data set, 'x.y.z'.
    features: a `tfds.features.FeaturesDict`.
    splits: by name.
    config_name: of the only TFDS builder config; None for no config.
    compressed: whether to compress records; of no use for JPEG images.

  Returns:
    The folder.

  Raises:
    ValueError: a split has more or fewer examples than its lengths add up to.
  """
  import tensorflow_datasets as tfds

  class RecordSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version(version)
    # A single config is chosen by TFDS itself, without a warning.
    BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name=x, version=version)
      for x in ([config_name] if config_name else [])
    ]

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=features, disable_shuffling=True
      )

    def _split_generators(self, dl_manager):
      raise NotImplementedError('_download_and_prepare writes the splits')

    def _generate_examples(self):
      raise NotImplementedError('_download_and_prepare writes the splits')

    def _download_and_prepare(self, dl_manager, download_config):
      del dl_manager, download_config
      infos = [
        _write_split(self, key, split, compressed)
        for key, split in splits.items()
      ]
      self.info.set_splits(tfds.core.splits.SplitDict(infos))  # pyright: ignore

  RecordSet.name = name  # pyright: ignore
  builder = RecordSet(data_dir=root, file_format='array_record')
  with contextlib.redirect_stdout(None):  # TFDS prints the temporary folder
    builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)


def _write_split(builder: Any, name: str, split: Split, compressed: bool):
  import tensorflow_datasets as tfds
  from array_record.python import array_record_module  # pyright: ignore

  template = tfds.core.ShardedFileTemplate(
    split=name,
    dataset_name=builder.name,
    data_dir=builder.data_path,
    filetype_suffix='array_record',
  )
  # One record per group, because records are read at random.
  options = 'group_size:1' if compressed else 'group_size:1,uncompressed'
  num_bytes, total = 0, sum(split.lengths)
  examples = iter(
    tqdm(
      split.examples,
      desc=f'Writing {name!r}',
      total=total,
      file=sys.stderr,
      mininterval=1,
      delay=1,
    )
  )
  for shard, length in enumerate(split.lengths):
    path = template.sharded_filepath(
      shard_index=shard, num_shards=len(split.lengths)
    )
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    try:
      for _ in range(length):
        record = builder.info.features.serialize_example(next(examples))
        writer.write(record)
        num_bytes += len(record)
    except StopIteration:
      raise ValueError(f'{name!r} has fewer than {total} examples') from None
    finally:
      writer.close()
  if next(examples, None) is not None:
    raise ValueError(f'{name!r} has more than {total} examples')
  return tfds.core.SplitInfo(
    name=name,
    shard_lengths=split.lengths,
    num_bytes=num_bytes,
    filename_template=template,
  )


def even_lengths(count: int, num_bytes: int) -> list[int]:
  """Returns the number of examples in each file, as even as possible.

  Args:
    count: of all examples, 1 or more.
    num_bytes: of all examples.

  >>> even_lengths(7, 3 * SHARD_BYTES)
  [3, 2, 2]
  """
  files = min(count, -(-num_bytes // SHARD_BYTES))
  each, more = divmod(count, files)
  return [each + (file < more) for file in range(files)]
