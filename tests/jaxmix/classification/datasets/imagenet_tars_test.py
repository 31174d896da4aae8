import dataclasses
import os
import pathlib
import subprocess
import sys
import tarfile
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from jaxmix.classification.datasets import imagenet_source, imagenet_tars
from jaxmix.classification.datasets.archives import imagenet_index
from jaxmix.files import record_sets, record_writer
from tests.jaxmix.classification import photos, tiny_tars
from tests.jaxmix.classification.tiny_tars import (
  LABELS,
  SPEC,
  TRAIN,
  VALIDATION,
  WNIDS,
)


def prepare(tmp_path, **files):
  source = tiny_tars.write(tmp_path / 'source', **files)
  return imagenet_tars.prepare(source, tmp_path / 'data', SPEC)


def read(folder, split):
  """Returns name to (label, file) in the order of the set."""
  builder: Any = tfds.builder_from_directory(folder)
  whole = tfds.decode.SkipDecoding()
  source = builder.as_data_source(split, decoders={'image': whole})
  return {
    example['file_name'].decode(): (int(example['label']), example['image'])
    for example in source
  }


def expected(split):
  classes = sorted(WNIDS)
  if split == 'train':
    return {
      name: (classes.index(wnid), content)
      for wnid, files in tiny_tars.train().items()
      for name, content in files.items()
    }
  files, wnids = tiny_tars.validation()
  return {
    name: (classes.index(wnid), content)
    for (name, content), wnid in zip(files.items(), wnids, strict=True)
  }


@pytest.mark.parametrize('size', [2**28, 9000])
def test_every_image_and_its_class(tmp_path, monkeypatch, size):
  monkeypatch.setattr(record_writer, 'SHARD_BYTES', size)
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 1000)
  folder = prepare(tmp_path)
  assert folder == tmp_path / 'data' / 'imagenet2012' / '1.0.0'
  for split in 'train', 'validation':
    made, wanted = read(folder, split), expected(split)
    assert made.keys() == wanted.keys()
    for name, (label, content) in wanted.items():
      assert made[name][0] == label
      if name != tiny_tars.PNG:
        assert made[name][1] == content, 'a file has changed'
    files = record_sets.check_shards(record_sets.open_set(folder), split)
    assert (len(files.lengths) > 2) == (size == 9000)
  png = photos.decode(read(folder, 'train')[tiny_tars.PNG][1])
  error = np.abs(png.astype(int) - photos.cut(99, 50, 40)).mean()
  assert error < 2, 'the PNG has become another image'
  assert os.listdir(tmp_path / 'data') == ['imagenet2012']


def test_the_trainer_reads_it(tmp_path, data_config):
  prepare(tmp_path)
  block = data_config(name='imagenet', dir=str(tmp_path / 'data'), workers=1)
  for split, name in imagenet_source.SPLITS.items():
    spec = dataclasses.replace(SPEC, image_shape=(32, 32, 3))
    source = imagenet_source.open_split(block, split, spec, seed=0, flip=True)
    batch = source.read(np.arange(len(source)), np.zeros(len(source), int))
    labels = [
      label
      for label, _ in read(
        imagenet_source.find(block.dir, spec.builder), name
      ).values()
    ]
    assert batch['label'].tolist() == labels
    assert batch['image'].shape == (len(source), 32, 32, 3)
    assert (batch['image'].std((1, 2, 3)) > 1).all()


def test_the_order_is_random_but_always_the_same(tmp_path):
  one = list(read(prepare(tmp_path / 'a'), 'train'))
  # The order of the archives does not matter.
  classes = dict(reversed(list(tiny_tars.train().items())))
  assert list(read(prepare(tmp_path / 'b', classes=classes), 'train')) == one
  names = [f'n01440764_{i}.JPEG' for i in range(4000)]
  order = imagenet_tars.shuffle(names)
  assert sorted(order.tolist()) == list(range(4000))
  # The positions of the first half are uniform, within 4 standard errors.
  first = np.flatnonzero(order < 2000) / 4000
  assert abs(first.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 2000)
  assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 4 / np.sqrt(4000)


def without(wnid=None, name=None):
  files = tiny_tars.train()
  if wnid:
    del files[wnid]
  else:
    for group in files.values():
      group.pop(name, None)
  return files


def put(wnid, name, content):
  files = tiny_tars.train()
  files[wnid][name] = content
  return files


def swap(wnid, packed):
  return tiny_tars.train() | {wnid: packed}


def val(change):
  files, _ = tiny_tars.validation()
  change(files)
  return files


first = f'{WNIDS[0]}_1.JPEG'
whole = tiny_tars.pack(tiny_tars.train()[WNIDS[0]])
link = tiny_tars.pack({first: b''}, tarfile.SYMTYPE)


@pytest.mark.parametrize(
  'files, match',
  [
    ({'classes': without(WNIDS[1])}, 'has 2 classes'),
    ({'classes': without(name=first)}, 'has 14 '),
    ({'classes': {**tiny_tars.train(), 'x': {}}}, r"'x\.tar'"),
    (
      {'classes': put(WNIDS[0], f'{WNIDS[1]}_9.JPEG', b'x')},
      rf"{WNIDS[0]}\.tar: '{WNIDS[1]}_9\.JPEG'",
    ),
    ({'classes': put(WNIDS[0], '../x', b'x')}, r"'\.\./x'"),
    ({'classes': put(WNIDS[0], first, b'')}, f'{first} has 0 bytes'),
    ({'classes': put(WNIDS[0], first, b'GIF89a')}, first),
    (
      {'classes': put(WNIDS[0], first, tiny_tars.png()[:-500])},
      f'{first}.*PNG',
    ),
    (
      {'classes': swap(WNIDS[0], link)},
      rf'{WNIDS[0]}\.tar .*{first}',
    ),
    (
      {'classes': swap(WNIDS[0], whole[:2000])},
      rf'{WNIDS[0]}\.tar',
    ),
    (
      {'classes': swap(WNIDS[0], b'no archive' * 99)},
      rf'{WNIDS[0]}\.tar',
    ),
    ({'classes': {}}, r'train\.tar'),
    (
      {'val': val(lambda f: f.pop('ILSVRC2012_val_00000003.JPEG'))},
      r'val\.tar has 5 ',
    ),
    (
      {'val': val(lambda f: f.update({'ILSVRC2012_val_00000007.JPEG': b'x'}))},
      r"'ILSVRC2012_val_00000007\.JPEG'",
    ),
    ({'wnids': ['n1'] * 6}, "line 1 .*'n1'"),
    ({'wnids': WNIDS}, 'class 0 has 1 '),
    ({'wnids': WNIDS * 3}, 'class 0 has 3 '),
  ],
)
def test_what_is_not_the_publishers_is_refused(tmp_path, files, match):
  with pytest.raises(ValueError, match=match) as error:
    prepare(tmp_path, **files)
  assert str(tmp_path / 'source') in str(error.value), 'no file is named'
  assert not list((tmp_path / 'data').glob('**/*')), 'files are left'


@pytest.mark.parametrize('part', [0, 0.2, 0.6, 0.98])
@pytest.mark.parametrize('name', [TRAIN, VALIDATION])
def test_a_truncated_archive_is_named(tmp_path, name, part):
  source = tiny_tars.write(tmp_path / 'source')
  path = source / name
  content = path.read_bytes().rstrip(b'\0')  # tar ends in blocks of zeros
  path.write_bytes(content[: int(part * len(content))])
  with pytest.raises(ValueError, match=name):
    imagenet_tars.prepare(source, tmp_path / 'data', SPEC)


def test_a_missing_file_is_named(tmp_path, capsys):
  source = tiny_tars.write(tmp_path / 'source')
  for name in TRAIN, VALIDATION, LABELS:
    content = (source / name).read_bytes()
    (source / name).unlink()
    os.mkfifo(source / name)  # must not be opened
    arguments = [str(source), str(tmp_path / 'data')]
    assert imagenet_tars.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and name in error
    (source / name).unlink()
    (source / name).write_bytes(content)


def test_a_header_of_any_size_is_not_read(tmp_path):
  source = tiny_tars.write(tmp_path / 'source')
  header = tarfile.TarInfo('././@PaxHeader')
  header.type, header.size = tarfile.XHDTYPE, 2**40
  with (source / TRAIN).open('wb') as file:
    file.write(header.tobuf(tarfile.GNU_FORMAT))
    file.truncate(2**41)  # sparse
  with pytest.raises(ValueError, match=f'{2**40}'):
    imagenet_tars.prepare(source, tmp_path / 'data', SPEC)


def test_a_full_disk_is_found_before_writing(tmp_path, monkeypatch):
  monkeypatch.setattr(
    'shutil.disk_usage', lambda path: type('Usage', (), {'free': 1000})
  )
  with pytest.raises(OSError, match=r'data .*1000'):
    prepare(tmp_path)


class Stop(BaseException):
  """Like KeyboardInterrupt: not an Exception."""


def test_an_interrupted_preparation_leaves_nothing_a_finished_one_is_kept(
  tmp_path, monkeypatch
):
  calls = []

  def stops(content):
    calls.append(content)
    if len(calls) == 9:
      raise Stop
    return content

  with monkeypatch.context() as patch:
    patch.setattr(imagenet_index, 'as_jpeg', stops)
    with pytest.raises(Stop):
      prepare(tmp_path)
  assert os.listdir(tmp_path / 'data') == []
  folder = prepare(tmp_path)
  before = sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir())
  with pytest.raises(FileExistsError, match=folder.name):
    prepare(tmp_path)
  assert sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir()) == before


@pytest.mark.slow
def test_the_command_without_tensorflow(tmp_path):
  source = tiny_tars.write(tmp_path / 'source')
  code = (
    'import sys\n'
    'from jaxmix.classification.datasets import imagenet_tars\n'
    'from tests.jaxmix.classification import tiny_tars\n'
    'imagenet_tars.prepare.__defaults__ = (tiny_tars.SPEC,)\n'
    'assert imagenet_tars.main(sys.argv[1:]) == 0\n'
    'assert "tensorflow" not in sys.modules\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, source, tmp_path / 'data'],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).resolve().parents[4],
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(tmp_path / 'data/imagenet2012/1.0.0')
