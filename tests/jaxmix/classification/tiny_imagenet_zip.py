"""A Tiny-ImageNet of three classes, in the publisher's format."""

import dataclasses
import functools
import zipfile

from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import photos

FOLDER = 'tiny-imagenet-200'
WNIDS = ['n02124075', 'n01443537', 'n07747607']  # not sorted, as published
SPEC = dataclasses.replace(
  DATASETS['tiny_imagenet'], num_classes=3, train_examples=9, test_examples=6
)


@functools.cache
def image(seed, height=64, width=64):
  mode = 'L' if seed == 4 else 'RGB'  # image 1 of WNIDS[1]
  return photos.encode(photos.cut(seed, height, width), mode)


def files():
  """Returns name below `FOLDER` to content, in the order of an archive."""
  made = {'wnids.txt': '\n'.join(WNIDS).encode() + b'\n'}
  lines = []
  for i, wnid in enumerate([WNIDS[2], *WNIDS, *WNIDS[:2]]):
    made[f'val/images/val_{i}.JPEG'] = image(100 + i)
    lines.append(f'val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n')
  made['val/val_annotations.txt'] = ''.join(lines).encode()
  made['test/images/test_0.JPEG'] = b'has no label and is not read'
  for k, wnid in enumerate(WNIDS):
    made[f'train/{wnid}/{wnid}_boxes.txt'] = b'not read'
    for i in range(3):
      made[f'train/{wnid}/images/{wnid}_{i}.JPEG'] = image(3 * k + i)
  return made


def expected():
  """Returns the expected pixels, decoded by Pillow, and labels."""
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
