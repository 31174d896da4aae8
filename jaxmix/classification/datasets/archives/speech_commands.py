"""Reader of Google Speech Commands (Warden, 2018), with Kaggle's 12 classes.

The publisher's archive has a folder of 16 kHz recordings for each word, minutes
of background noise, and lists of the recordings for validation and testing. Ten
words are classes 0 to 9, all other words are `unknown` (10), and `silence` (11)
is cut from the noise: one example for every ten recordings of a split, at a
volume drawn uniformly from 0 to 1. The first eight tenths of a noise file give
those of the train split, the ninth tenth those of validation and the last those
of test. A recording is cut or padded to one second.
"""

import hashlib
import pathlib
import re
import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from jaxmix.classification.datasets.archives import wav
from jaxmix.classification.datasets.specs import DatasetSpec

RATE = 16_000
WORDS = (
  *('yes', 'no', 'up', 'down', 'left', 'right', 'on', 'off', 'stop', 'go'),
)
CLASSES = (*WORDS, 'unknown', 'silence')
NOISE = '_background_noise_'
_MAX_TOTAL = 2**33  # bytes of an archive, inflated; the audio has 3.4 GB
_FILE = re.compile(r'(?:.*/)?(validation|testing)_list\.txt|([^/]+)/[^/]+\.wav')
# The part of a noise file from which the silence of a split is cut.
_NOISE_RANGES = {'train': (0, 0.8), 'validation': (0.8, 0.9), 'test': (0.9, 1)}


def num_recordings(spec: DatasetSpec, split: str) -> int:
  """Returns the number of recordings of words in a split, without silence.

  >>> import types
  >>> num_recordings(types.SimpleNamespace(examples=lambda split: 22), 'test')
  20
  """
  examples = spec.examples(split)  # n + n // 10
  return examples - examples // 11


def read_source(
  spec: DatasetSpec, source: pathlib.Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads and checks the publisher's archive, or the folder it unpacks to.

  Returns:
    Split to {'audio', 'label'}, and one sha256 of all files.

  Raises:
    FileNotFoundError: `source` does not exist.
    ValueError: a word or a list is missing, a count is not the published one,
      or a recording is not as published.
  """
  recordings: dict[str, np.ndarray] = {}
  noise: dict[str, np.ndarray] = {}
  lists: dict[str, set[str]] = {}
  sums = {}
  for name, content in _iter_files(spec, source):
    sums[name] = hashlib.sha256(content).hexdigest()
    if name.endswith('_list.txt'):
      lists[name.removesuffix('_list.txt')] = set(content.decode().split())
      continue
    samples = wav.read_wav(content, RATE, f'{source}: {name}')
    if name.startswith(f'{NOISE}/'):
      noise[name] = samples
    else:
      recordings[name] = wav.one_second(samples, RATE)
  _check(spec, source, recordings, noise, lists)
  splits = {}
  for split in _NOISE_RANGES:
    names = [n for n in sorted(recordings) if _split_of(n, lists) == split]
    words = [name.partition('/')[0] for name in names]
    silence = _cut_silence(noise, split, len(names) // 10)
    audio = np.empty((len(names) + len(silence), RATE), np.int16)
    for i, name in enumerate(names):
      audio[i] = recordings[name]
    audio[len(names) :] = silence
    known = [WORDS.index(w) if w in WORDS else len(WORDS) for w in words]
    labels = np.array(known + [len(WORDS) + 1] * len(silence), np.int32)
    splits[split] = {'audio': audio, 'label': labels}
  return splits, {'files': wav.files_fingerprint(sums)}


def _split_of(name: str, lists: dict[str, set[str]]) -> str:
  if name in lists['testing']:
    return 'test'
  return 'validation' if name in lists['validation'] else 'train'


def _check(spec: DatasetSpec, source, recordings, noise, lists) -> None:
  for name in 'validation', 'testing':
    if name not in lists:
      raise ValueError(
        f'{source} has no {name}_list.txt: is it the archive of {spec.url}?'
      )
    if missing := sorted(lists[name] - recordings.keys()):
      raise ValueError(
        f'{source}: {name}_list.txt names {missing[0]}, which is missing '
        f'({len(missing)} such files)'
      )
  if not noise or min(map(len, noise.values())) < 20 * RATE:
    raise ValueError(
      f'{source} needs recordings of 20 seconds or more in {NOISE}/*.wav, from '
      'which silence is cut'
    )
  counts = dict.fromkeys(spec.recordings, 0)
  for name in recordings:
    word = name.partition('/')[0]
    counts[word] = counts.get(word, 0) + 1
  for word, count in counts.items():
    expected = spec.recordings.get(word, 0)
    if count != expected:
      raise ValueError(
        f'{source} has {count} recordings of {word!r}, expected {expected}: '
        f'is it the complete archive of {spec.url}?'
      )
  for split in _NOISE_RANGES:
    count = sum(_split_of(name, lists) == split for name in recordings)
    if count != (expected := num_recordings(spec, split)):
      raise ValueError(
        f'{source} has {count} recordings for {split}, expected {expected}: '
        f'are its lists those of {spec.url}?'
      )


def _cut_silence(
  noise: dict[str, np.ndarray], split: str, count: int
) -> np.ndarray:
  """Cuts seconds of noise, always the same ones: int16 `[count, T]`."""
  rng = np.random.default_rng(list(_NOISE_RANGES).index(split))
  files = [noise[name] for name in sorted(noise)]
  first, last = _NOISE_RANGES[split]
  cuts = np.empty((count, RATE), np.int16)
  for i in range(count):
    file = files[rng.integers(len(files))]
    low, high = int(first * len(file)), int(last * len(file)) - RATE
    start = rng.integers(low, high + 1)
    cuts[i] = np.rint(rng.uniform() * file[start : start + RATE])
  return cuts


def source_fingerprints(
  spec: DatasetSpec, source: pathlib.Path
) -> dict[str, str]:
  """Returns one sha256, equal for a folder and an archive of it."""
  sums = {
    name: hashlib.sha256(content).hexdigest()
    for name, content in _iter_files(spec, source)
  }
  return {'files': wav.files_fingerprint(sums)}


def _iter_files(
  spec: DatasetSpec, source: pathlib.Path
) -> Iterator[tuple[str, bytes]]:
  def matches(name: str) -> bool:
    match = _FILE.fullmatch(name)
    return match is not None and (
      match[1] is not None or match[2] in (*spec.recordings, NOISE)
    )

  files = wav.iter_recordings(source, matches, _MAX_TOTAL)
  for name, content in tqdm(
    files,
    desc=f'Reading {source.name}',
    total=sum(spec.recordings.values()),
    delay=5,
    file=sys.stderr,
  ):
    # The lists are called by their own name, whatever folder they are in.
    is_list = name.endswith('_list.txt')
    yield (name.rpartition('/')[2] if is_list else name), content
