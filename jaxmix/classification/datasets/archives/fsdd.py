"""The Free Spoken Digit Dataset: 3,000 recordings of ten digits at 8 kHz.

Six speakers said each digit fifty times: `recordings/{digit}_{speaker}_{take}
.wav`. Of `fsdd` takes 0 to 4 are the test split, as its publisher says; of
`fsdd_speakers` two whole speakers are, which is harder. A recording is cut or
padded to one second.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re

import numpy as np

from jaxmix.classification.datasets.archives import wav

RATE = 8000
_LIMIT = 2**28  # bytes of an archive, unpacked; there are 16 MB of sounds
SPEAKERS = ('george', 'jackson', 'lucas', 'nicolas', 'theo', 'yweweler')
_NAME = re.compile(r'recordings/(\d)_([a-z]+)_(\d{1,2})\.wav')


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the recordings are split.

  Attributes:
    name: of the data set.
    test_speakers: whose recordings are tested.
    test_takes: the first ones, which are tested, of every digit.
    takes: of every digit by every speaker.
    url, checksum, variable, store, feature, shape, dtype, classes, per_class:
      as in `published.Layout`. There is no checksum: the publisher gives none.
  """

  name: str
  test_speakers: tuple[str, ...]
  test_takes: int
  takes: int = 50
  url: str = 'https://github.com/Jakobovski/free-spoken-digit-dataset'
  checksum: str = ''
  variable: str = 'JAXMIX_FSDD'
  store: str = 'jaxmix_fsdd'
  feature: str = 'audio'
  shape: tuple[int, ...] = (RATE,)
  dtype: str = 'int16'
  classes: int = 10
  per_class: None = None

  def examples(self, split: str) -> int:
    """Number of examples of a split."""
    test = len(self.test_speakers) * self.test_takes
    whole = len(SPEAKERS) * self.takes
    return self.classes * (test if split == 'test' else whole - test)


LAYOUTS = {
  'fsdd': Layout('fsdd', SPEAKERS, 5),
  'fsdd_speakers': Layout('fsdd_speakers', SPEAKERS[-2:], 50),
}


def read_source(
  layout: Layout, source: str | os.PathLike[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads the publisher's folder, or an archive of it.

  Returns:
    Split to {'audio', 'label'}, and the sha256 of all recordings.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: a recording is missing, or is not as it must be.
  """
  files = _read_files(source)
  found = {}
  for name, content in files.items():
    match = _NAME.fullmatch(name)
    assert match is not None
    digit, speaker, take = int(match[1]), match[2], int(match[3])
    samples = wav.read_wav(content, RATE, f'{source}: {name}')
    found[digit, speaker, take] = wav.one_second(samples, RATE)
  wanted = [
    (digit, speaker, take)
    for digit in range(layout.classes)
    for speaker in SPEAKERS
    for take in range(layout.takes)
  ]
  for digit, speaker, take in wanted:
    if (digit, speaker, take) not in found:
      raise ValueError(
        f'{source} has no recordings/{digit}_{speaker}_{take}.wav: expected '
        f'{layout.takes} takes of each digit by each of {", ".join(SPEAKERS)} '
        f'({layout.url})'
      )
  if more := sorted(found.keys() - set(wanted)):
    digit, speaker, take = more[0]
    raise ValueError(
      f'{source} has a recordings/{digit}_{speaker}_{take}.wav, which is not '
      f'of the data set ({layout.url}); remove it'
    )
  splits = {}
  for split in 'train', 'test':
    keys = [
      (digit, speaker, take)
      for digit, speaker, take in wanted
      if (split == 'test')
      == (speaker in layout.test_speakers and take < layout.test_takes)
    ]
    splits[split] = {
      'audio': np.stack([found[key] for key in keys]),
      'label': np.array([digit for digit, *_ in keys], np.int32),
    }
  return splits, _sums(files)


def source_sha256(
  layout: Layout, source: str | os.PathLike[str]
) -> dict[str, str]:
  """The sha256 of all recordings, the same for a folder and an archive."""
  del layout
  path = pathlib.Path(source).expanduser()
  times = [path.stat().st_mtime_ns] if path.exists() else []
  for folder in path, path / 'recordings':
    if folder.is_dir():
      times += [file.stat().st_mtime_ns for file in sorted(folder.iterdir())]
  return _sha256s(path, tuple(times))


@functools.lru_cache(maxsize=4)
def _sha256s(source, times):
  del times  # only so that a changed file is read again
  return _sums(_read_files(source))


def _read_files(source: str | os.PathLike[str]) -> dict[str, bytes]:
  path = pathlib.Path(source).expanduser()
  files = wav.read_files(path, lambda name: bool(_NAME.fullmatch(name)), _LIMIT)
  return dict(files)


def _sums(files: dict[str, bytes]) -> dict[str, str]:
  sums = {name: hashlib.sha256(x).hexdigest() for name, x in files.items()}
  return {'recordings': wav.sums_digest(sums)}
