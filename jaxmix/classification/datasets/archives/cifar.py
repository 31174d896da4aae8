"""Reader of CIFAR-10 and CIFAR-100 in their publisher's binary version.

A file is a sequence of records: one or two label bytes, the class last, then
the red, green and blue planes of 32x32 pixels. Neither TFDS nor TensorFlow is
needed.
"""

import hashlib
import pathlib

import numpy as np

from jaxmix.classification.datasets.specs import DatasetSpec
from jaxmix.files import archives

_PIXELS = 32 * 32 * 3
_OVERHEAD = 2**22  # bytes of an archive: headers, and the names of the classes
# Number of values of the label bytes before the class: coarse labels.
_COARSE = {'cifar10': (), 'cifar100': (20,)}


def read_source(
  spec: DatasetSpec, source: pathlib.Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads and checks the publisher's archive or folder.

  Returns:
    Split to {'image', 'label'}, and file name to sha256.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not the publisher's: its size, a label or the number
      of examples of a class is wrong.
  """
  files = _read_files(spec, source)
  limits = (*_COARSE[spec.name], spec.num_classes)
  splits = {}
  for split, names in spec.files.items():
    records = np.concatenate(
      [_parse(f'{source}: {name}', files[name], limits) for name in names]
    )
    labels = records[:, len(limits) - 1].astype(np.int32)
    counts = np.bincount(labels, minlength=spec.num_classes)
    wrong = np.flatnonzero(counts != spec.per_class(split))
    if wrong.size:
      raise ValueError(
        f'{source}: {", ".join(names)}: class {wrong[0]} has '
        f'{counts[wrong[0]]} examples, expected {spec.per_class(split)}'
      )
    planes = records[:, len(limits) :].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    splits[split] = {'image': images, 'label': labels}
  return splits, _fingerprints(files)


def source_fingerprints(
  spec: DatasetSpec, source: pathlib.Path
) -> dict[str, str]:
  """Returns file name to sha256, equal for a folder and an archive of it."""
  return _fingerprints(_read_files(spec, source))


def _fingerprints(files: dict[str, bytes]) -> dict[str, str]:
  return {
    name: hashlib.sha256(content).hexdigest() for name, content in files.items()
  }


def file_sizes(spec: DatasetSpec) -> dict[str, int]:
  """Returns the size in bytes of each file by its name."""
  record = len(_COARSE[spec.name]) + 1 + _PIXELS
  return {
    file: spec.examples(split) // len(files) * record
    for split, files in spec.files.items()
    for file in files
  }


def _read_files(spec: DatasetSpec, source: pathlib.Path) -> dict[str, bytes]:
  sizes = file_sizes(spec)
  if source.is_dir():
    folder = archives.find_folder(source, spec.folder)
    files = {
      name: archives.read_file(folder / name, size)
      for name, size in sizes.items()
    }
  else:
    members = {f'{spec.folder}/{name}': name for name in sizes}
    files = dict(
      archives.iter_files(
        source,
        members.get,
        max_total=sum(sizes.values()) + _OVERHEAD,
        max_bytes=max(sizes.values()),
      )
    )
  for name, size in sizes.items():
    if name not in files:
      raise ValueError(
        f'{source} has no {spec.folder}/{name}: is it the archive of '
        f'{spec.url}?'
      )
    if len(files[name]) != size:
      raise ValueError(
        f'{source}: {name} has {len(files[name])} bytes, expected {size}'
      )
  return files


def _parse(label: str, content: bytes, limits: tuple[int, ...]) -> np.ndarray:
  records = np.frombuffer(content, np.uint8)
  records = records.reshape(-1, len(limits) + _PIXELS)
  for byte, limit in enumerate(limits):
    wrong = np.flatnonzero(records[:, byte] >= limit)
    if wrong.size:
      raise ValueError(
        f'{label}: record {wrong[0]} has label {records[wrong[0], byte]} in '
        f'byte {byte}, expected 0..{limit - 1}'
      )
  return records
