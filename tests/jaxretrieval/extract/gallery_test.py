import collections
import json
import random
import tarfile

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.extract import caption_files, encoders, images
from jaxretrieval.extract import gallery as extract
from jaxretrieval.index import image_store
from tests.jaxretrieval.extract.fakes import Fakes

TARS, EACH = 6, 3


@pytest.fixture
def tars(tmp_path):
  """Tar files of three pictures, with the same names in each."""
  folder = tmp_path / 'tars'
  folder.mkdir()
  rng = np.random.default_rng(0)
  for i in range(TARS):
    with tarfile.open(folder / f'{i}.tar', 'w') as tar:
      for j in range(EACH):
        path = tmp_path / f'{j}.png'
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        tar.add(path, path.name)
        path.unlink()
  return folder


@pytest.fixture
def fakes(monkeypatch):
  made = Fakes()
  monkeypatch.setattr(encoders, 'image_encoder', made.image_encoder)
  return made


def arguments(source, out='gallery', **options):
  given = {
    'images': source,
    'out': source.parent / out,
    'licence': 'my own',
    'namespace': 'mine',
    'batch_size': 2,
  } | options
  return [f'--{key}={value}' for key, value in given.items()]


def content(folder):
  """What two galleries of the same pictures share, bit for bit."""
  about = image_store.read_info(folder)
  records = [image_store.load(folder, name) for name in about.shards]
  assert None not in records, f'not all of {about.shards} are there'
  return about, [record for record in records if record]


def test_features_belong_to_their_images(tars, fakes, capsys):
  assert extract.main(arguments(tars)) == 0
  out = capsys.readouterr().out
  assert '6 shards encoded, 0 existed; 18 images, 0 bad' in out
  assert '6 of 6 shards' in out
  folder = tars.parent / 'gallery'
  about = image_store.read_info(folder)
  assert about.shards == [f'{i}' for i in range(TARS)]
  assert (about.encoder, about.licence) == ('efficientnet-lite2 1', 'my own')
  encode = fakes.image_encoder('x').encode
  seen = []
  for name in about.shards:
    record = image_store.load(folder, name)
    assert record
    features = np.load(image_store.paths(folder, name)[0])
    listed = images.list_images(tars / f'{name}.tar')
    for image, number, row in zip(
      record.names, record.ids, features, strict=True
    ):
      expected = encode([images.read_image(listed[image.split('/')[1]])])
      np.testing.assert_array_equal(row, expected[0].astype(np.float16))
      assert number == caption_files.name_id(image)
    seen += record.ids
  assert len(set(seen)) == TARS * EACH, 'two pictures have one id'


def test_killed_and_run_again_with_other_counts(tars, fakes, monkeypatch):
  """Whatever was there before, in the end it is as if never stopped."""
  assert extract.main(arguments(tars, 'whole')) == 0
  saved = collections.Counter()
  save = image_store.save

  def counted(folder, name, *rest):
    saved[name] += 1
    save(folder, name, *rest)

  monkeypatch.setattr(image_store, 'save', counted)
  rng = random.Random(0)
  for count in (2, 5, 3, 1, 9):
    for index in rng.sample(range(count), count):
      fakes.stop_at = fakes.images + rng.randrange(1, 8)
      share = arguments(tars, process_index=index, process_count=count)
      assert extract.main(share) in (0, 2)
  fakes.stop_at = None
  for index in range(4):
    share = arguments(tars, process_index=index, process_count=4)
    assert extract.main(share) == 0
  assert saved == {f'{i}': 1 for i in range(TARS)}, 'a shard was done again'
  folders = tars.parent / 'gallery', tars.parent / 'whole'
  assert content(folders[0]) == content(folders[1])


def test_a_process_leaves_the_shards_of_others_alone(tars, fakes, monkeypatch):
  looked = []
  load = image_store.load
  monkeypatch.setattr(
    image_store,
    'load',
    lambda folder, n: (looked.append(n), load(folder, n))[1],
  )
  assert extract.main(arguments(tars, process_index=1, process_count=3)) == 0
  assert looked == ['1', '4'] and fakes.images == 2 * EACH


def test_a_damaged_shard_is_done_again(tars, fakes):
  extract.main(arguments(tars))
  path, _ = image_store.paths(tars.parent / 'gallery', '2')
  path.write_bytes(path.read_bytes()[:-3] + b'xyz')
  fakes.images = 0
  assert extract.main(arguments(tars)) == 0
  assert fakes.images == EACH


def test_tar_files_that_came_later_are_added(tars, fakes):
  late = (tars / '5.tar').rename(tars.parent / '5.tar')
  assert extract.main(arguments(tars)) == 0
  late.rename(tars / '5.tar')
  (tars / '3.tar').unlink()
  fakes.images = 0
  assert extract.main(arguments(tars)) == 0
  assert fakes.images == EACH, 'what was done is done again'
  about = image_store.read_info(tars.parent / 'gallery')
  assert about.shards == ['0', '1', '2', '4', '5']


def test_a_tar_file_that_changed_is_done_again(tars, fakes):
  extract.main(arguments(tars))
  with tarfile.open(tars / '1.tar', 'a') as tar:
    tar.add(tars / '0.tar', '9.png')  # no picture, but more of the file
  fakes.images = 0
  assert extract.main(arguments(tars)) == 0
  assert fakes.images == EACH
  record = image_store.load(tars.parent / 'gallery', '1')
  assert record and [*record.bad] == ['1.tar/9.png']
  assert len(record.names) == EACH


def test_a_broken_tar_file_does_not_stop_the_others(tars, fakes, capsys):
  (tars / '2.tar').write_bytes(b'no tar file' * 100)
  assert extract.main(arguments(tars)) == 2
  output = capsys.readouterr()
  assert '2.tar' in output.err
  assert '5 of 6 shards' in output.out
  assert fakes.images == 5 * EACH
  (tars / '2.tar').write_bytes((tars / '1.tar').read_bytes())
  assert extract.main(arguments(tars)) == 0
  assert fakes.images == 6 * EACH


def test_another_encoder_is_not_mixed_in(tars, fakes, capsys):
  extract.main(arguments(tars, process_index=0, process_count=2))
  given = arguments(tars, image_encoder='other')
  assert extract.main(given) == 2
  assert 'encoder' in capsys.readouterr().err
  assert fakes.images == 3 * EACH


def test_ten_images_in_a_folder(tmp_path, fakes):
  folder = tmp_path / 'pictures'
  folder.mkdir()
  for i in range(10):
    Image.new('RGB', (9, 9), (i, 0, 0)).save(folder / f'{i}.png')
  (folder / '4.png').write_bytes(b'no picture')
  assert extract.main(arguments(folder, shard_size=4)) == 0
  about, records = content(tmp_path / 'gallery')
  assert about.shards == ['00000', '00001', '00002']
  names = [name for record in records for name in record.names]
  assert names == [f'{i}.png' for i in range(10) if i != 4]
  assert [*records[1].bad] == ['4.png']
  features = np.load(image_store.paths(tmp_path / 'gallery', '00001')[0])
  assert len(features) == 3, 'the bad picture has a row'


def test_ids_of_a_known_namespace(tmp_path, fakes, capsys):
  folder = tmp_path / 'pictures'
  folder.mkdir()
  Image.new('RGB', (9, 9)).save(folder / 'COCO_val2014_000000000042.jpg')
  assert extract.main(arguments(folder, namespace='coco')) == 0
  record = image_store.load(tmp_path / 'gallery', '00000')
  assert record and record.ids == [42]
  Image.new('RGB', (9, 9)).save(folder / 'x.jpg')
  assert extract.main(arguments(folder, 'other', namespace='coco')) == 2
  assert "'x.jpg'" in capsys.readouterr().err


def test_the_tasks_of_an_array_share_the_work(tars, fakes, monkeypatch):
  for key, value in {'MIN': 1, 'MAX': 2, 'COUNT': 2, 'ID': 2}.items():
    monkeypatch.setenv(f'SLURM_ARRAY_TASK_{key}', str(value))
  assert extract.main(arguments(tars)) == 0
  missing = image_store.missing(tars.parent / 'gallery', ['0', '1', '2', '3'])
  assert missing == ['0', '2']


@pytest.mark.parametrize(
  'options, message',
  [
    ({'shard_size': 0}, '1 or more'),
    ({'process_index': 1}, '--process_count - 1'),
  ],
)
def test_options(tmp_path, capsys, options, message):
  with pytest.raises(SystemExit):
    extract.main(arguments(tmp_path, **options))
  assert message in capsys.readouterr().err


def test_the_record_is_plain_json(tars, fakes):
  extract.main(arguments(tars))
  _, path = image_store.paths(tars.parent / 'gallery', '0')
  found = json.loads(path.read_text())
  assert found['names'][0] == '0.tar/0.png' and found['bad'] == {}
