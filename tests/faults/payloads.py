"""Malicious files: `python -m tests.faults.payloads FOLDER`.

Each file is written to a folder and read as the trainer reads it. For each, a
line of JSON has the outcome, the time, and the peak memory of the process.
"""

import gzip
import io
import json
import os
import pathlib
import pickle
import resource
import sys
import tarfile
import time
import zipfile
import zlib

import numpy as np
from ml_collections import ConfigDict

from jaxmix.classification.datasets import array_records
from jaxmix.classification.datasets.archives import cifar
from jaxmix.classification.datasets.specs import DATASETS
from jaxmix.files import untrusted
from jaxretrieval.extract import caption_files
from jaxretrieval.feature_sets import feature_set
from jaxretrieval.feature_sets.datasets import flickr8k, multi30k, ready_made
from jaxretrieval.index import exported_head, index_files
from launch.config import check_config
from launch.shell.exit_codes import ExitCode, classify_errors, exit_code
from launch.workdir import config_file

DEEP = '{"a":' * 10**5
HUGE = 2 * 2**30
ABOUT = '{"image": "eye 1", "text": "ear 1"}'
CIFAR = DATASETS['cifar100']


class Canary:
  """An object whose unpickling creates a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, 'w')


def bomb(size, header=b''):
  """Yields a deflate stream of `header` and `size` zeros."""
  squeeze = zlib.compressobj(9, wbits=-15)
  yield squeeze.compress(header) + squeeze.flush(zlib.Z_FULL_FLUSH)
  block = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
  for _ in range(size // 2**20):
    yield block
  yield squeeze.flush()


def write_bomb(path, header=b''):
  with path.open('wb') as file:
    file.write(b'\x1f\x8b\x08' + bytes(6) + b'\xff')
    file.writelines(bomb(HUGE, header))
    file.write(bytes(8))
  return path


def npy(shape, data=b'', text=None):
  text = text or f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
  return (
    b'\x93NUMPY\x01\x00'
    + len(text).to_bytes(2, 'little')
    + (text.encode() + data)
  )


def npz(path, members):
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return path


def objects(path):
  file = io.BytesIO()
  np.save(file, np.array([Canary(path)], object), allow_pickle=True)
  return file.getvalue()


def zip_bomb(path):
  """Writes an .npz of one array, `HUGE` bytes of zeros, that takes 2 MB."""
  npz(path, {'features.npy': npy((HUGE // 4,))})
  data = b''.join(bomb(HUGE - 2**24, npy((HUGE // 4,))))
  name = b'features.npy'
  sizes = len(data).to_bytes(4, 'little') + b'\xff\xff\xff\xff'
  extra = b'\x01\x00\x08\x00' + HUGE.to_bytes(8, 'little')
  about = b'\x2d\x00\x00\x00\x08\x00' + bytes(8) + sizes
  about += len(name).to_bytes(2, 'little') + len(extra).to_bytes(2, 'little')
  local = b'PK\x03\x04' + about + name + extra
  central = b'PK\x01\x02\x2d\x00' + about + bytes(14) + name + extra
  end = b'PK\x05\x06' + bytes(4) + b'\x01\x00\x01\x00'
  end += len(central).to_bytes(4, 'little')
  end += (len(local) + len(data)).to_bytes(4, 'little') + bytes(2)
  path.write_bytes(local + data + central + end)
  return path


def array_payloads(here, canary):
  def load(name, content):
    path = here / name
    path.write_bytes(content)
    return lambda: ready_made.load(path)

  yield 'npy of objects', load('a.npy', objects(canary))
  yield 'npy that is a pickle', load('b.npy', pickle.dumps(Canary(canary)))
  yield 'npz that is a pickle', load('c.npz', pickle.dumps(Canary(canary)))
  yield 'npy smaller than it says', load('d.npy', npy((10**12,), bytes(64)))
  yield 'npy of a negative size', load('e.npy', npy((-5,), bytes(64)))
  code = f"open({str(canary)!r}, 'w')"
  text = f"{{'descr': {code}, 'fortran_order': False, 'shape': (1,)}}"
  yield 'npy with code for a header', load('f.npy', npy(None, b'', text))
  yield 'npy with a long header', load('g.npy', npy(None, b'', ' ' * 60000))
  yield 'npy of nothing', load('h.npy', b'')

  def member(name, content, inside='features.npy'):
    path = npz(here / name, {inside: content})
    return lambda: ready_made.load(path, 'features')

  yield 'npz of objects', member('i.npz', objects(canary))
  yield 'npz smaller than it says', member('j.npz', npy((10**12,), bytes(64)))
  big = (2**40, 2**40)
  yield 'npz whose size overflows', member('k.npz', npy(big, bytes(64)))
  yield 'npz of a negative size', member('l.npz', npy((-16,), bytes(64)))
  slip = member('m.npz', npy((16,), bytes(64)), '../features.npy')
  yield 'npz that would leave its folder', slip
  member('n.npz', npy((16,), bytes(64)))()
  cut = (here / 'n.npz').read_bytes()[:-30]
  yield 'npz cut short', load('n.npz', cut)
  bombed = zip_bomb(here / 'o.npz')
  yield 'npz bomb', lambda: ready_made.load(bombed, 'features')


def tar(path, *members):
  with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
    for name, kind, link, content in members:
      member = tarfile.TarInfo(name)
      member.type, member.linkname, member.size = kind, link, len(content)
      archive.addfile(member, io.BytesIO(content))
  return path


def archive_payloads(here, canary):
  def read(path):
    return lambda: cifar.read_source(CIFAR, path)

  wanted = 'cifar-100-binary/train.bin'
  for title, name, kind, link in (
    ('up', f'../{canary.name}', tarfile.REGTYPE, ''),
    ('absolute', str(canary), tarfile.REGTYPE, ''),
    ('up from within', f'cifar-100-binary/../../{canary.name}', b'0', ''),
    ('symlink', wanted, tarfile.SYMTYPE, str(canary)),
    ('hardlink', wanted, tarfile.LNKTYPE, str(canary)),
    ('device', wanted, tarfile.CHRTYPE, ''),
    ('block device', wanted, tarfile.BLKTYPE, ''),
    ('pipe', wanted, tarfile.FIFOTYPE, ''),
    ('folder', wanted, tarfile.DIRTYPE, ''),
    ('small file', wanted, tarfile.REGTYPE, ''),
  ):
    made = tar(here / f'{title}.tar.gz', (name, kind, link, b''))
    yield f'tar: {title}', read(made)
  for title, name, kind in (
    ('bomb', 'other', tarfile.REGTYPE),
    ('bomb of the file', wanted, tarfile.REGTYPE),
    ('bomb in a pax header', 'x', tarfile.XHDTYPE),
    ('bomb in a long name', 'x', tarfile.GNUTYPE_LONGNAME),
  ):
    member = tarfile.TarInfo(name)
    member.size, member.type = HUGE, kind
    header = member.tobuf(tarfile.GNU_FORMAT)
    yield f'tar: {title}', read(write_bomb(here / f'{title}.tar.gz', header))
  yield 'tar: bomb of zeros', read(write_bomb(here / 'z.tar.gz'))
  plain = here / 'plain.tar.gz'
  plain.write_bytes(pickle.dumps(Canary(canary)))
  yield 'tar that is a pickle', read(plain)


def record_payloads(here, canary):
  def read(name, content):
    folder = here / name
    folder.mkdir()
    (folder / 'jaxmix.json').write_text(content)
    return lambda: array_records._check_shards(folder)

  file = {'bytes': 0, 'sha256': ''}
  for number, name in enumerate(
    ('../secret', '/etc/passwd', '..', 'a/../../secret', '')
  ):
    record = {'source': {}, 'splits': {}, 'shards': {name: file}}
    yield f'shard {name!r}', read(f'shard{number}', json.dumps(record))
  yield 'jaxmix.json too deep', read('deep', DEEP)
  yield 'jaxmix.json with NaN', read('nan', '{"shards": NaN}')
  yield 'jaxmix.json of a list', read('list', '[]')
  folder = here / 'tfds'
  folder.mkdir()
  # In the current folder, where a data set may be.
  (here / 'evil.py').write_text(f'open({str(canary)!r}, "w")')
  (folder / 'dataset_info.json').write_text('{}')
  (folder / 'features.json').write_text('{"pythonClassName": "evil.X"}')
  yield (
    'tfds of a class of its own',
    lambda: (sys.path.insert(0, str(here)), untrusted.open_prepared(folder)),
  )
  deep = here / 'tfds_deep'
  deep.mkdir()
  (deep / 'features.json').write_text(DEEP)
  yield 'tfds too deep', lambda: untrusted.open_prepared(deep)


def feature_payloads(here, canary):
  split = {'images': 2, 'captions': {'en': 2}, 'sha256': ''}
  shard = {'bytes': 64, 'sha256': ''}
  good = {
    'name': 'toy',
    'namespace': 'toy',
    'encoders': {'image': 'a', 'text': 'b'},
    'licence': '',
    'splits': {'train': split},
    'image_dim': 4,
    'text_dim': 4,
    'dtype': 'float16',
    'shards': {'toy-train.array_record-00000-of-00001': shard},
    'source': {},
  }

  def read(name, content):
    folder = here / name
    folder.mkdir()
    (folder / 'feature_set.json').write_text(content)
    return lambda: feature_set.read(folder, 'train')

  changes = {
    'shard up': {'shards': {'toy-train./../../secret': shard}},
    'shard absolute': {'shards': {'/etc/passwd': shard}},
    'name up': {'name': '../toy'},
    'split up': {'splits': {'../x': split}},
    'many images': {'splits': {'train': split | {'images': 10**12}}},
    'more than int64': {'splits': {'train': split | {'images': 10**30}}},
    'negative images': {'splits': {'train': split | {'images': -2}}},
    'fractions of images': {'splits': {'train': split | {'images': 2.5}}},
    'images in words': {'splits': {'train': split | {'images': 'two'}}},
    'many captions': {
      'splits': {'train': split | {'captions': {'en': 10**12}}}
    },
    'wide': {'image_dim': 10**9},
    'negative bytes': {'shards': {'x': {'bytes': -1, 'sha256': ''}}},
    'no splits': {'splits': None},
  }
  for number, (title, change) in enumerate(changes.items()):
    yield f'feature set: {title}', read(f'f{number}', json.dumps(good | change))
  infinite = json.dumps(good).replace('"image_dim": 4', '"image_dim": 1e999')
  yield 'feature set: infinite', read('fi', infinite)
  nan = json.dumps(good).replace('"image_dim": 4', '"image_dim": NaN')
  yield 'feature set: NaN', read('fn', nan)
  yield 'feature set: deep', read('fd', DEEP)


def other_payloads(here, canary):
  def folder(name, **files):
    made = here / name
    made.mkdir()
    for file, content in files.items():
      place = made / file.replace('__', '.')
      if isinstance(content, str):
        place.write_text(content)
      else:
        place.write_bytes(content)
    return made

  bombed = folder('flickr', encoders__json=ABOUT)
  write_bomb(bombed / 'captions.json.gz')
  yield 'captions bomb', lambda: flickr8k.read(bombed)
  deep = folder('flickr_deep', captions__json__gz=gzip.compress(DEEP.encode()))
  yield 'captions too deep', lambda: flickr8k.read(deep)
  lines = folder('multi30k')
  write_bomb(lines / 'train.txt.gz')
  yield 'lines bomb', lambda: multi30k.read(lines)
  about = folder('about', encoders__json=DEEP)
  yield 'encoders.json too deep', lambda: ready_made.about(about)
  rows = folder('rows', captions__jsonl=DEEP)
  yield (
    'captions.jsonl too deep',
    lambda: caption_files.read(
      rows / 'captions.jsonl', namespace='x', split='train'
    ),
  )
  config = '{"config": {"task": "x"}, "step": 1}'
  head = folder('head', export__json=config)
  npz(head / 'arrays.npz', {'params/a.npy': objects(canary)})
  yield 'head of objects', lambda: exported_head.load(head)
  crossed = folder('crossed', export__json=config)
  one = npy((1,), bytes(4))
  npz(crossed / 'arrays.npz', {'a.npy': one, 'a/b.npy': one})
  yield 'head whose arrays cross', lambda: exported_head.load(crossed)
  shallow = folder('shallow', export__json=DEEP, arrays__npz=b'')
  yield 'head too deep', lambda: exported_head.load(shallow)
  for number, (title, files) in enumerate(
    {'up': {'../../secret': ''}, 'absolute': {'/etc/passwd': ''}}.items()
  ):
    made = json.dumps({'version': 1, 'files': files})
    place = folder(f'index{number}', index__json=made)
    yield f'index of a file {title}', lambda p=place: index_files.load(p)
  place = folder('index_deep', index__json=DEEP)
  yield 'index too deep', lambda: index_files.load(place)


def config_payloads(here, canary):
  def read(name, content):
    path = here / f'{name}.json'
    path.write_text(content)

    def load():
      fields = config_file.read(path)
      config_file.check_task(fields['task'])
      check_config(ConfigDict(fields))

    return load

  (here / 'evil_task.py').write_text(f'open({str(canary)!r}, "w")')
  for name, content in {
    'deep': DEEP,
    'deep lists': '[' * 10**5,
    'NaN': '{"seed": NaN}',
    'infinite': '{"seed": 1e999}',
    'many digits': '{"seed": ' + '9' * 10**5 + '}',
    'twice': '{"task": "jaxmix.x", "task": "os"}',
    'dunder': '{"__class__": {"__init__": 1}}',
    'long': ' ' * 2**24,
    'task of python': '{"task": "antigravity"}',
    'task beside it': '{"task": "evil_task"}',
    'task in a pip package': '{"task": "numpy.testing"}',
    'task by path': '{"task": "../evil_task"}',
    'yaml': 'a: !!python/object/apply:os.system ["touch x"]',
    'python': f'open({str(canary)!r}, "w")',
    'pickle': pickle.dumps(Canary(canary), 0).decode(),
  }.items():
    yield f'config: {name}', read(name, content)


PAYLOADS = {
  ExitCode.DATA: (
    array_payloads,
    archive_payloads,
    record_payloads,
    feature_payloads,
    other_payloads,
  ),
  ExitCode.CONFIG: (config_payloads,),
}


def main(folder):
  # A file that payloads lead to, so that reading it is not an error.
  (folder / 'secret').write_text('')
  canary = folder / 'canary'
  for code, groups in PAYLOADS.items():
    for group in groups:
      here = folder / group.__name__
      here.mkdir()
      for name, read in group(here, canary):
        before, begun = list(sys.path), time.process_time()
        os.chdir(here)
        try:
          with classify_errors(code):
            read()
          ended, why = 'was read', ''
        except BaseException as error:
          wrong = exit_code(error) != code
          ended = f'{error!r:.300}' if wrong else 'refused'
          why = ' '.join(str(error).split())[-150:]
        sys.path[:] = before
        done = {
          'why': why,
          'name': name,
          'ended': ended,
          'seconds': time.process_time() - begun,
          'mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
          'canary': canary.exists(),
        }
        print(json.dumps(done), flush=True)


if __name__ == '__main__':
  print(
    json.dumps(
      {'mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
    )
  )
  main(pathlib.Path(sys.argv[1]))
