import json

import numpy as np
import pytest

from jaxretrieval.feature_sets import feature_set
from jaxretrieval.index import exported_head, index_files
from jaxretrieval.index.__main__ import main
from tests.jaxretrieval import tiny_index


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('index')
  run = tiny_index.save_head(folder / 'export')
  return run, tiny_index.save_features(folder / 'sets')


@pytest.fixture
def made(inputs, tmp_path):
  return tiny_index.save_index(inputs, tmp_path)


def test_an_index_holds_the_image_store_in_the_heads_units(inputs, made):
  run, folder = inputs
  opened = index_files.load(made)
  whole = feature_set.read(folder, 'test')
  np.testing.assert_array_equal(
    opened.features, whole.images.astype(np.float32) / np.float32(5)
  )
  assert opened.features.dtype == np.float32
  assert opened.names == whole.captions.image_names
  np.testing.assert_array_equal(opened.ids, whole.captions.image_ids)
  assert opened.info['encoders'] == tiny_index.ENCODERS._asdict()
  assert opened.info['licence'] == 'none' and opened.info['scale'] == 5
  np.testing.assert_array_equal(
    opened.head.encode(whole.texts), exported_head.load(run).encode(whole.texts)
  )


def test_an_index_can_be_moved(made, tmp_path):
  moved = made.rename(tmp_path / 'elsewhere')
  assert index_files.load(moved).info['images'] == tiny_index.IMAGES


@pytest.mark.parametrize(
  'name', ['gallery.npy', 'ids.npy', 'names.json', 'head/arrays.npz']
)
def test_a_changed_file_is_refused(made, name):
  data = bytearray((made / name).read_bytes())
  data[-5] ^= 1
  (made / name).write_bytes(data)
  with pytest.raises(ValueError, match=name):
    index_files.load(made)


def test_a_missing_file_is_refused(made):
  (made / 'ids.npy').unlink()
  with pytest.raises(ValueError, match='ids.npy'):
    index_files.load(made)


@pytest.mark.parametrize('change', [{'scale': 4.0}, {'images': 119}])
def test_a_description_that_does_not_fit_is_refused(made, change):
  path = made / index_files.RECORD
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match='index.json'):
    index_files.load(made)


def test_an_index_of_another_version_is_refused(made):
  path = made / index_files.RECORD
  path.write_text(json.dumps(json.loads(path.read_text()) | {'version': 3}))
  with pytest.raises(ValueError, match='version 3'):
    index_files.load(made)


def test_no_index(tmp_path):
  with pytest.raises(FileNotFoundError, match='index.json'):
    index_files.load(tmp_path)


def test_without_faiss_the_index_has_none(inputs, tmp_path, monkeypatch):
  monkeypatch.setattr(index_files, 'load_faiss', lambda: None)
  made = tiny_index.save_index(inputs, tmp_path)
  assert not (made / index_files.FAISS).exists()
  assert index_files.load(made).faiss_index is None


def test_a_head_of_other_encoders_is_refused(inputs, tmp_path):
  others = tiny_index.ENCODERS._replace(image='camera 2, mean')
  run = tiny_index.save_head(tmp_path / 'export', encoders=others)
  with pytest.raises(ValueError, match="'camera 1, mean'"):
    index_files.write(run, inputs[1], 'test', tmp_path / 'index')
  assert not (tmp_path / 'index').exists()


def test_the_command(inputs, tmp_path, capsys):
  run, folder = inputs
  given = [f'--run={run}', f'--features={folder}', '--split=test']
  given += [f'--out={tmp_path / "index"}']
  assert main(given) == 0
  assert '120 images' in capsys.readouterr().out
  assert main(given) == 2
  assert '--out' in capsys.readouterr().err
  given[0] = f'--run={tmp_path}'
  assert main([*given, f'--out={tmp_path / "b"}']) == 2
  assert 'launch.export' in capsys.readouterr().err
