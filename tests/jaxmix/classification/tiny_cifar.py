"""A CIFAR-100 of twenty records, in the publisher's format."""

import dataclasses
import io
import tarfile

import numpy as np

from jaxmix.classification.datasets.specs import DATASETS

SPEC = dataclasses.replace(
  DATASETS['cifar100'], num_classes=4, train_examples=12, test_examples=8
)


def rows(seed=0):
  """Returns split to uint8 `[N, 2 + 3072]`, as in the files."""
  rng = np.random.default_rng(seed)
  records = {}
  for split in 'train', 'test':
    count = SPEC.examples(split)
    records[split] = rng.integers(0, 256, (count, 2 + 3072), np.uint8)
    records[split][:, 0] = 1
    records[split][:, 1] = np.arange(count) % 4
  return records


def arrays(records):
  """Returns the expected arrays of a split."""
  planes = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return {'image': planes, 'label': records[:, 1].astype(np.int32)}


def write_folder(parent, records):
  folder = parent / 'cifar-100-binary'
  folder.mkdir(parents=True)
  for split, array in records.items():
    array.tofile(folder / f'{split}.bin')
  return folder


def members(records):
  """Returns names and contents of the archive's files."""
  return [
    (f'cifar-100-binary/{split}.bin', array.tobytes())
    for split, array in records.items()
  ]


def write_archive(path, members, kind=tarfile.REGTYPE):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in members:
      member = tarfile.TarInfo(name)
      member.size, member.type, member.linkname = len(content), kind, '/etc'
      archive.addfile(member, io.BytesIO(content))
  return path
