"""Recordings in the publishers' layouts, a few and short."""

import dataclasses
import io
import tarfile
import wave
import zipfile

import numpy as np

from jaxmix.classification.datasets.archives import fsdd, speech_commands

FSDD = dataclasses.replace(fsdd.LAYOUTS['fsdd'], takes=3, test_takes=1)
COMMANDS = dataclasses.replace(
  speech_commands.LAYOUTS['speech_commands_v1'],
  recordings={'yes': 14, 'go': 11, 'bed': 15},
  splits={'train': 20, 'validation': 10, 'test': 10},
)


def wav(samples, rate, channels=1, width=2):
  """A WAV file of these samples."""
  out = io.BytesIO()
  with wave.open(out, 'wb') as file:
    file.setparams((channels, width, rate, 0, 'NONE', ''))
    file.writeframes(np.asarray(samples, f'<i{width}').tobytes())
  return out.getvalue()


def digits():
  """Path to content of a small FSDD; each recording has its own samples."""
  files, number = {}, 0
  for digit in range(10):
    for speaker in fsdd.SPEAKERS:
      for take in range(FSDD.takes):
        number += 1
        samples = np.full(20 + take, number)
        name = f'recordings/{digit}_{speaker}_{take}.wav'
        files[name] = wav(samples, fsdd.RATE)
  return files


def commands():
  """The same of Speech Commands; the lists are among the files."""
  files, names = {}, []
  for word, count in COMMANDS.recordings.items():
    for take in range(count):
      names.append(f'{word}/{take:08x}_nohash_0.wav')
      samples = np.full(30, len(names))
      files[names[-1]] = wav(samples, speech_commands.RATE)
  order = np.random.default_rng(0).permutation(names).tolist()
  files['validation_list.txt'] = '\n'.join(order[:10]).encode()
  files['testing_list.txt'] = '\n'.join(order[10:20]).encode()
  # Each sample tells its place, less what fits into 16 bits.
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
