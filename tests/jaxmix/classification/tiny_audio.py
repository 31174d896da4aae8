"""A few short recordings in the publishers' formats."""

import dataclasses
import io
import tarfile
import wave
import zipfile

import numpy as np

from jaxmix.classification.datasets.archives import fsdd, speech_commands
from jaxmix.classification.datasets.specs import DATASETS

TAKES = 3  # of each digit by each speaker, of which one is tested
FSDD = dataclasses.replace(
  DATASETS['fsdd'], train_examples=120, test_examples=60
)
RECORDINGS = {'train': 20, 'validation': 10, 'test': 10}
COMMANDS = dataclasses.replace(
  DATASETS['speech_commands_v1'],
  recordings={'yes': 14, 'go': 11, 'bed': 15},
  train_examples=22,
  validation_examples=11,
  test_examples=11,
)


def wav(samples, rate, channels=1, width=2):
  """Returns a WAV file of these samples."""
  out = io.BytesIO()
  with wave.open(out, 'wb') as file:
    file.setparams((channels, width, rate, 0, 'NONE', ''))
    file.writeframes(np.asarray(samples, f'<i{width}').tobytes())
  return out.getvalue()


def digits():
  """Returns the files of a small FSDD; each recording has its own samples."""
  files, number = {}, 0
  for digit in range(10):
    for speaker in fsdd.SPEAKERS:
      for take in range(TAKES):
        number += 1
        samples = np.full(20 + take, number)
        name = f'recordings/{digit}_{speaker}_{take}.wav'
        files[name] = wav(samples, FSDD.sample_rate)
  return files


def commands():
  """Returns the files of small Speech Commands, with the lists."""
  files, names = {}, []
  for word, count in COMMANDS.recordings.items():
    for take in range(count):
      names.append(f'{word}/{take:08x}_nohash_0.wav')
      samples = np.full(30, len(names))
      files[names[-1]] = wav(samples, speech_commands.RATE)
  order = np.random.default_rng(0).permutation(names).tolist()
  files['validation_list.txt'] = '\n'.join(order[:10]).encode()
  files['testing_list.txt'] = '\n'.join(order[10:20]).encode()
  # Each sample encodes its position, scaled to fit into 16 bits.
  noise = np.arange(30 * speech_commands.RATE) // 16 + 1000
  for name in 'a', 'b':
    path = f'{speech_commands.NOISE}/{name}.wav'
    files[path] = wav(noise, speech_commands.RATE)
  files['LICENSE'] = b'CC'
  return files


def write(path, files):
  """Writes files to a folder, a .zip or a .tar.gz, by the name of `path`."""
  if path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w') as archive:
      for name, content in files.items():
        archive.writestr(name, content)
  elif path.suffix == '.gz':
    with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
      for name, content in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
  else:
    for name, content in files.items():
      (path / name).parent.mkdir(parents=True, exist_ok=True)
      (path / name).write_bytes(content)
  return path
