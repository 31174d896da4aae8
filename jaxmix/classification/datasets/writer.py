"""Splits of a TFDS data set, written as ArrayRecord one example at a time.

tfds' own writer keeps what it writes in memory, and needs TensorFlow once that
is more than a gigabyte.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import (  # comes with grain
  array_record_module,  # pyright: ignore
)
from tqdm import tqdm

FILE = 2**28  # bytes of arrays that go into one file


def write_split(
  builder: Any,
  split: str,
  examples: Iterable[Mapping[str, Any]],
  lengths: list[int],
  *,
  packed: bool = True,
) -> tfds.core.SplitInfo:
  """Writes the files of a split below `builder.data_path`.

  Args:
    builder: of the data set; its features encode the examples.
    split: its name.
    examples: by feature, in order.
    lengths: the number of examples in each file; 1 or more.
    packed: whether to compress them; of JPEG files nothing can be saved.

  Returns:
    What the data set's description says of the split.

  Raises:
    ValueError: there are more or fewer examples.
  """
  template = tfds.core.ShardedFileTemplate(
    split=split,
    dataset_name=builder.name,
    data_dir=builder.data_path,
    filetype_suffix='array_record',
  )
  # One record a group: each is read at random.
  options = 'group_size:1' if packed else 'group_size:1,uncompressed'
  written = 0
  bar = tqdm(
    examples,
    desc=f'Writing {split!r}',
    total=sum(lengths),
    file=sys.stderr,
    mininterval=1,
    delay=1,
  )
  source = iter(bar)
  for shard, length in enumerate(lengths):
    path = template.sharded_filepath(shard_index=shard, num_shards=len(lengths))
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    try:
      for _ in range(length):
        record = builder.info.features.serialize_example(next(source))
        writer.write(record)
        written += len(record)
    except StopIteration:
      raise ValueError(f'{split!r} has fewer examples than announced') from None
    finally:
      writer.close()
  if next(source, None) is not None:
    raise ValueError(f'{split!r} has more than {sum(lengths)} examples')
  return tfds.core.SplitInfo(
    name=split,
    shard_lengths=lengths,
    num_bytes=written,
    filename_template=template,
  )


def even(total: int, parts: int) -> list[int]:
  """Lengths of `parts` files of nearly the same number of examples.

  >>> even(7, 3)
  [3, 2, 2]
  """
  each, more = divmod(total, parts)
  return [each + (part < more) for part in range(parts)]
