"""A CIFAR-100 of twenty records, in the publisher's layout."""

import dataclasses
import io
import tarfile

import numpy as np

from jaxmix.classification.datasets.archives import cifar

LAYOUT = dataclasses.replace(
  cifar.LAYOUTS['cifar100'], labels=(2, 4), per_class={'train': 3, 'test': 2}
)


def rows(seed=0):
  """Split to uint8 `[N, 2 + 3072]`, as in the files."""
  rng = np.random.default_rng(seed)
  rows = {}
  for split in 'train', 'test':
    count = LAYOUT.examples(split)
    rows[split] = rng.integers(0, 256, (count, 2 + 3072), np.uint8)
    rows[split][:, 0] = 1
    rows[split][:, 1] = np.arange(count) % 4
  return rows


def arrays(rows):
  """What a split of such rows must become."""
  planes = rows[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return {'image': planes, 'label': rows[:, 1].astype(np.int32)}


def write_folder(parent, rows):
  folder = parent / 'cifar-100-binary'
  folder.mkdir(parents=True)
  for split, array in rows.items():
    array.tofile(folder / f'{split}.bin')
  return folder


def members(rows):
  """Names and contents of the archive's files."""
  return [
    (f'cifar-100-binary/{split}.bin', array.tobytes())
    for split, array in rows.items()
  ]


def write_archive(path, members, kind=tarfile.REGTYPE):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in members:
      member = tarfile.TarInfo(name)
      member.size, member.type, member.linkname = len(content), kind, '/etc'
      archive.addfile(member, io.BytesIO(content))
  return path
