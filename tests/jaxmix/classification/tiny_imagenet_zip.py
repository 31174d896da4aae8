"""A Tiny-ImageNet of three classes, in the publisher's layout."""

import functools
import zipfile

from jaxmix.classification.datasets.archives import tiny_imagenet
from tests.jaxmix.classification import photos

FOLDER = 'tiny-imagenet-200'
WNIDS = ['n02124075', 'n01443537', 'n07747607']  # not sorted, as published
LAYOUT = tiny_imagenet.Layout(
  classes=3, per_class={'train': 3, 'test': 2}, folder=FOLDER
)


@functools.cache
def picture(seed, height=64, width=64):
  mode = 'L' if seed == 4 else 'RGB'  # picture 1 of WNIDS[1]
  return photos.encode(photos.cut(seed, height, width), mode)


def files():
  """Name below `FOLDER` to content, in the order of an archive."""
  made = {'wnids.txt': '\n'.join(WNIDS).encode() + b'\n'}
  lines = []
  for i, wnid in enumerate([WNIDS[2], *WNIDS, *WNIDS[:2]]):
    made[f'val/images/val_{i}.JPEG'] = picture(100 + i)
    lines.append(f'val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n')
  made['val/val_annotations.txt'] = ''.join(lines).encode()
  made['test/images/test_0.JPEG'] = b'has no label and is not read'
  for k, wnid in enumerate(WNIDS):
    made[f'train/{wnid}/{wnid}_boxes.txt'] = b'not read'
    for i in range(3):
      made[f'train/{wnid}/images/{wnid}_{i}.JPEG'] = picture(3 * k + i)
  return made


def expected():
  """What they must become: pixels by Pillow, classes by hand."""
  made = files()
  train = [
    (f'train/{wnid}/images/{wnid}_{i}.JPEG', label)
    for label, wnid in enumerate(sorted(WNIDS))
    for i in range(3)
  ]
  labels = [2, 1, 0, 2, 1, 0]
  test = [(f'val/images/val_{i}.JPEG', label) for i, label in enumerate(labels)]
  return {
    split: ([photos.decode(made[name]) for name, _ in pairs], pairs)
    for split, pairs in (('train', train), ('test', test))
  }


def write_zip(path, contents, **options):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, **options) as archive:
    archive.writestr(f'{FOLDER}/', b'')
    for name, content in contents.items():
      archive.writestr(f'{FOLDER}/{name}', content)
  return path


def write_folder(parent, contents):
  for name, content in contents.items():
    path = parent / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return parent / FOLDER
