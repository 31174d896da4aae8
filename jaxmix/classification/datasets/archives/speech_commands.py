"""Google Speech Commands (Warden, 2018), by the twelve classes of Kaggle.

The publisher's archive has a folder of 16 kHz recordings for each word, minutes
of background noise, and lists of what is for validation and for testing. Ten
words are classes 0 to 9, all other words are `unknown` (10), and `silence` (11)
is cut from the noise: one for every ten recordings of a split, at a volume
drawn evenly from 0 to 1. The first eight tenths of a noise file give those of
the train split, the ninth those of validation and the last those of test. A
recording is cut or padded to one second.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from jaxmix.classification.datasets.archives import wav

RATE = 16_000
WORDS = (
  *('yes', 'no', 'up', 'down', 'left', 'right', 'on', 'off', 'stop', 'go'),
)
CLASSES = (*WORDS, 'unknown', 'silence')
_LIMIT = 2**33  # bytes of an archive, unpacked; there are 3.4 GB of sounds
NOISE = '_background_noise_'
_FILE = re.compile(r'(?:.*/)?(validation|testing)_list\.txt|([^/]+)/[^/]+\.wav')
# Of a noise file, where the silence of a split is cut.
_PARTS = {'train': (0, 0.8), 'validation': (0.8, 0.9), 'test': (0.9, 1)}


@dataclasses.dataclass(frozen=True)
class Layout:
  """A version of the data set, as published.

  Attributes:
    name: of the data set.
    url, checksum: of its archive.
    recordings: of each word, in all splits.
    splits: split to the recordings in it, of words.
    variable, store, feature, shape, dtype, classes, per_class: as in
      `published.Layout`.
  """

  name: str
  url: str
  checksum: str
  recordings: dict[str, int]
  splits: dict[str, int]
  variable: str = 'JAXMIX_SPEECH_COMMANDS'
  store: str = 'jaxmix_speech_commands'
  feature: str = 'audio'
  shape: tuple[int, ...] = (RATE,)
  dtype: str = 'int16'
  classes: int = len(CLASSES)
  per_class: None = None

  def examples(self, split: str) -> int:
    """Number of examples of a split, silence among them."""
    return self.splits[split] + self.splits[split] // 10


def _counts(text: str) -> dict[str, int]:
  words = text.split()
  return dict(zip(words[::2], map(int, words[1::2]), strict=True))


_URL = 'http://download.tensorflow.org/data/speech_commands_v0.0'
# The counts of version 2 are those of Warden's paper; both add up to
# what is said of the whole, 64,721 and 105,829.
LAYOUTS = {
  'speech_commands_v1': Layout(
    'speech_commands_v1',
    f'{_URL}1.tar.gz',
    'sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d',
    _counts(
      'bed 1713 bird 1731 cat 1733 dog 1746 down 2359 eight 2352 five 2357 '
      'four 2372 go 2372 happy 1742 house 1750 left 2353 marvin 1746 nine 2364 '
      'no 2375 off 2357 on 2367 one 2370 right 2367 seven 2377 sheila 1734 '
      'six 2369 stop 2380 three 2356 tree 1733 two 2373 up 2375 wow 1745 '
      'yes 2377 zero 2376'
    ),
    {'train': 51_088, 'validation': 6_798, 'test': 6_835},
  ),
  'speech_commands_v2': Layout(
    'speech_commands_v2',
    f'{_URL}2.tar.gz',
    'sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58',
    _counts(
      'backward 1664 bed 2014 bird 2064 cat 2031 dog 2128 down 3917 eight 3787 '
      'five 4052 follow 1579 forward 1557 four 3728 go 3880 happy 2054 '
      'house 2113 learn 1575 left 3801 marvin 2100 nine 3934 no 3941 off 3745 '
      'on 3845 one 3890 right 3778 seven 3998 sheila 2022 six 3860 stop 3872 '
      'three 3727 tree 1759 two 3880 up 3723 visual 1592 wow 2123 yes 4044 '
      'zero 4052'
    ),
    {'train': 84_843, 'validation': 9_981, 'test': 11_005},
  ),
}


def read_source(
  layout: Layout, source: str | os.PathLike[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads the publisher's archive, or the folder it unpacks to.

  Returns:
    Split to {'audio', 'label'}, and the sha256 of all files.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: a word or a list is missing, a count is not the published one,
      or a recording is not as it must be.
  """
  found: dict[str, np.ndarray] = {}
  noise: dict[str, np.ndarray] = {}
  lists: dict[str, set[str]] = {}
  sums = {}
  for name, content in _read_files(layout, source):
    sums[name] = hashlib.sha256(content).hexdigest()
    if name.endswith('_list.txt'):
      lists[name.removesuffix('_list.txt')] = set(content.decode().split())
      continue
    samples = wav.read_wav(content, RATE, f'{source}: {name}')
    if name.startswith(f'{NOISE}/'):
      noise[name] = samples
    else:
      found[name] = wav.one_second(samples, RATE)
  _check(layout, source, found, noise, lists)
  splits = {}
  for split in layout.splits:
    names = [n for n in sorted(found) if _split(n, lists) == split]
    words = [name.partition('/')[0] for name in names]
    quiet = _silence(noise, split, len(names) // 10)
    audio = np.empty((len(names) + len(quiet), RATE), np.int16)
    for row, name in enumerate(names):
      audio[row] = found[name]
    audio[len(names) :] = quiet
    known = [WORDS.index(w) if w in WORDS else len(WORDS) for w in words]
    labels = np.array(known + [len(WORDS) + 1] * len(quiet), np.int32)
    splits[split] = {'audio': audio, 'label': labels}
  return splits, {'files': wav.sums_digest(sums)}


def _split(name: str, lists: dict[str, set[str]]) -> str:
  if name in lists['testing']:
    return 'test'
  return 'validation' if name in lists['validation'] else 'train'


def _check(layout, source, found, noise, lists) -> None:
  for name in 'validation', 'testing':
    if name not in lists:
      raise ValueError(f'{source} has no {name}_list.txt: not {layout.url}?')
    if missing := sorted(lists[name] - found.keys()):
      raise ValueError(
        f'{source}: {name}_list.txt names {missing[0]}, which is not there '
        f'({len(missing)} such files)'
      )
  if not noise or min(map(len, noise.values())) < 20 * RATE:
    raise ValueError(
      f'{source} has no {NOISE}/*.wav, of 20 seconds or more each, from which '
      'silence is cut'
    )
  counts = dict.fromkeys(layout.recordings, 0)
  for name in found:
    word = name.partition('/')[0]
    counts[word] = counts.get(word, 0) + 1
  for word, count in counts.items():
    expected = layout.recordings.get(word, 0)
    if count != expected:
      raise ValueError(
        f'{source} has {count} recordings of {word!r}, expected {expected}: '
        f'not all of {layout.url}?'
      )
  for split, expected in layout.splits.items():
    count = sum(_split(name, lists) == split for name in found)
    if count != expected:
      raise ValueError(
        f'{source} has {count} recordings for {split}, expected {expected}: '
        f'are its lists those of {layout.url}?'
      )


def _silence(
  noise: dict[str, np.ndarray], split: str, count: int
) -> np.ndarray:
  """Cuts seconds of noise, always the same ones: int16 `[count, T]`."""
  rng = np.random.default_rng(list(_PARTS).index(split))
  files = [noise[name] for name in sorted(noise)]
  first, last = _PARTS[split]
  cuts = np.empty((count, RATE), np.int16)
  for row in range(count):
    file = files[rng.integers(len(files))]
    low, high = int(first * len(file)), int(last * len(file)) - RATE
    begin = rng.integers(low, high + 1)
    cuts[row] = np.rint(rng.uniform() * file[begin : begin + RATE])
  return cuts


def source_sha256(
  layout: Layout, source: str | os.PathLike[str]
) -> dict[str, str]:
  """The sha256 of all files, the same for a folder and an archive of it.

  Reads all of it: leave `config.data.source` empty once the set is prepared.
  """
  path = pathlib.Path(source).expanduser()
  time = path.stat().st_mtime_ns if path.exists() else 0
  return _sha256s(layout.name, path, time)


@functools.lru_cache(maxsize=4)
def _sha256s(name, source, time):
  del time  # only so that a changed file is read again
  sums = {
    file: hashlib.sha256(content).hexdigest()
    for file, content in _read_files(LAYOUTS[name], source)
  }
  return {'files': wav.sums_digest(sums)}


def _read_files(
  layout: Layout, source: str | os.PathLike[str]
) -> Iterator[tuple[str, bytes]]:
  path = pathlib.Path(source).expanduser()

  def wanted(name: str) -> bool:
    match = _FILE.fullmatch(name)
    return match is not None and (
      match[1] is not None or match[2] in (*layout.recordings, NOISE)
    )

  total = sum(layout.recordings.values())
  files = wav.read_files(path, wanted, _LIMIT)
  with tqdm(
    desc=f'Reading {path.name}', total=total, delay=5, file=sys.stderr
  ) as bar:
    for name, content in files:
      bar.update()
      yield (
        name.rpartition('/')[2] if name.endswith('_list.txt') else name,
        content,
      )
