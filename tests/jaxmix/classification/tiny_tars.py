"""An ImageNet of three classes, in its publisher's archives."""

import dataclasses
import functools
import io
import tarfile

from PIL import Image

from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import photos

WNIDS = ['n02119789', 'n01440764', 'n07565083']  # not sorted
SPEC = dataclasses.replace(
  DATASETS['imagenet'], num_classes=3, train_examples=15, test_examples=6
)
TRAIN, VALIDATION, LABELS = (*SPEC.files['train'], *SPEC.files['validation'])
PNG = f'{WNIDS[2]}_7.JPEG'


@functools.cache
def photo(seed):
  """Returns a small JPEG file; the sizes differ."""
  mode = 'CMYK' if seed == 3 else 'L' if seed == 5 else 'RGB'
  return photos.encode(photos.cut(seed, 60 + 3 * seed % 20, 70 + seed), mode)


@functools.cache
def png():
  file = io.BytesIO()
  Image.fromarray(photos.cut(99, 50, 40)).save(file, 'PNG')
  return file.getvalue()


def train():
  """Returns class to the names and contents of its files."""
  made, seed = {}, 0
  for wnid, count in zip(WNIDS, (5, 4, 6), strict=True):
    made[wnid] = {}
    for i in range(count):
      made[wnid][f'{wnid}_{3 * i + 1}.JPEG'] = photo(seed)
      seed += 1
  made[WNIDS[2]][PNG] = png()
  return made


def validation():
  """Returns names and contents, and the class of each."""
  names = [f'ILSVRC2012_val_{i:08}.JPEG' for i in range(1, 7)]
  files = {name: photo(100 + i) for i, name in enumerate(names)}
  wnids = [WNIDS[i] for i in (2, 0, 1, 1, 2, 0)]
  return files, wnids


def pack(files, kind=tarfile.REGTYPE):
  """Returns a tar archive with the files in this order."""
  made = io.BytesIO()
  with tarfile.open(fileobj=made, mode='w') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size, member.type, member.linkname = len(content), kind, '/etc'
      archive.addfile(member, io.BytesIO(content))
  return made.getvalue()


def write(folder, classes=None, val=None, wnids=None):
  """Writes all three files; a class may be a tar archive already."""
  folder.mkdir(parents=True, exist_ok=True)
  classes = train() if classes is None else classes
  packed = {
    f'{wnid}.tar': files if isinstance(files, bytes) else pack(files)
    for wnid, files in classes.items()
  }
  default_val, default_wnids = validation()
  val = default_val if val is None else val
  (folder / TRAIN).write_bytes(pack(packed))
  # Not in the order of their numbers.
  reverse = dict(reversed(list(val.items())))
  (folder / VALIDATION).write_bytes(pack(reverse))
  lines = '\n'.join(default_wnids if wnids is None else wnids)
  (folder / LABELS).write_text(lines + '\n')
  return folder
