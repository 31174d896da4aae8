"""Reader of the Free Spoken Digit Dataset: 3,000 recordings of ten digits.

Six speakers said each digit fifty times, recorded at 8 kHz:
`recordings/{digit}_{speaker}_{take}.wav`. In `fsdd` the takes 0 to 4 are the
test split, as its publisher says; in `fsdd_speakers` it is two whole speakers,
which is harder. A recording is cut or padded to one second.
"""

import hashlib
import pathlib
import re

import numpy as np

from jaxmix.classification.datasets.archives import wav
from jaxmix.classification.datasets.specs import DatasetSpec

SPEAKERS = ('george', 'jackson', 'lucas', 'nicolas', 'theo', 'yweweler')
_TEST_SPEAKERS = {'fsdd': SPEAKERS, 'fsdd_speakers': SPEAKERS[-2:]}
_MAX_TOTAL = 2**28  # bytes of an archive, inflated; the audio has 16 MB
_NAME = re.compile(r'recordings/(\d)_([a-z]+)_(\d{1,2})\.wav')


def read_source(
  spec: DatasetSpec, source: pathlib.Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads and checks the publisher's folder, or an archive of it.

  Returns:
    Split to {'audio', 'label'}, and one sha256 of all recordings.

  Raises:
    FileNotFoundError: `source` does not exist.
    ValueError: a recording is missing, unknown or not as published.
  """
  files = _read_files(source)
  recordings = {}
  for name, content in files.items():
    match = _NAME.fullmatch(name)
    assert match is not None
    digit, speaker, take = int(match[1]), match[2], int(match[3])
    samples = wav.read_wav(content, spec.sample_rate, f'{source}: {name}')
    recordings[digit, speaker, take] = wav.one_second(samples, spec.sample_rate)
  takes = (spec.train_examples + spec.test_examples) // (
    spec.num_classes * len(SPEAKERS)
  )
  expected = [
    (digit, speaker, take)
    for digit in range(spec.num_classes)
    for speaker in SPEAKERS
    for take in range(takes)
  ]
  for digit, speaker, take in expected:
    if (digit, speaker, take) not in recordings:
      raise ValueError(
        f'{source} has no recordings/{digit}_{speaker}_{take}.wav: expected '
        f'{takes} takes of each digit by each of {", ".join(SPEAKERS)} '
        f'({spec.url})'
      )
  if unknown := sorted(recordings.keys() - set(expected)):
    digit, speaker, take = unknown[0]
    raise ValueError(
      f'{source} has recordings/{digit}_{speaker}_{take}.wav, which is not in '
      f'the data set ({spec.url}): remove it'
    )
  speakers = _TEST_SPEAKERS[spec.name]
  test_takes = spec.test_examples // (spec.num_classes * len(speakers))
  splits = {}
  for split in 'train', 'test':
    keys = [
      (digit, speaker, take)
      for digit, speaker, take in expected
      if (split == 'test') == (speaker in speakers and take < test_takes)
    ]
    splits[split] = {
      'audio': np.stack([recordings[key] for key in keys]),
      'label': np.array([digit for digit, *_ in keys], np.int32),
    }
  return splits, _fingerprints(files)


def source_fingerprints(
  spec: DatasetSpec, source: pathlib.Path
) -> dict[str, str]:
  """Returns one sha256, equal for a folder and an archive of it."""
  del spec
  return _fingerprints(_read_files(source))


def _fingerprints(files: dict[str, bytes]) -> dict[str, str]:
  sums = {name: hashlib.sha256(x).hexdigest() for name, x in files.items()}
  return {'recordings': wav.files_fingerprint(sums)}


def _read_files(source: pathlib.Path) -> dict[str, bytes]:
  return dict(wav.iter_recordings(source, _NAME.fullmatch, _MAX_TOTAL))
