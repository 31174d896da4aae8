import gzip
import io
import os

import numpy as np
import pytest

from jaxmix.files import untrusted


def write(path, content):
  path.write_bytes(content)
  return path


def test_json_within_its_bounds(tmp_path):
  path = write(tmp_path / 'a.json', b'{"a": [1, {"b": 2.5}]}')
  content = {'a': [1, {'b': 2.5}]}
  assert untrusted.read_json(path) == content
  assert untrusted.read_json(path, 22, 3, unique_keys=True) == content
  assert untrusted.parse_json('3', max_depth=0) == 3


@pytest.mark.parametrize(
  'content, options, match',
  [
    (b'[1, 2]', {'max_bytes': 5}, '5 bytes'),
    (b'[[1]]', {'max_depth': 1}, '1 levels'),
    (b'{"a": {"b": {}}}', {'max_depth': 2}, '2 levels'),
    (b'{"a": 1, "a": 2}', {'unique_keys': True}, "'a'"),
    (b'[' * 10**5, {}, 'deep'),
    (b'[NaN]', {}, 'NaN'),
    (b'[-Infinity]', {}, '-Infinity'),
    (b'[1e999]', {}, '1e999'),
    (b'{"a": 1', {}, 'delimiter'),
    (b'\xff', {}, 'decode'),
  ],
)
def test_json_out_of_its_bounds(tmp_path, content, options, match):
  with pytest.raises(ValueError, match=match):
    untrusted.read_json(write(tmp_path / 'a.json', content), **options)


def test_no_pipe_is_read(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(ValueError):
    untrusted.read_json(tmp_path / 'pipe')
  for read in untrusted.load_array, untrusted.load_arrays:
    with pytest.raises(FileNotFoundError, match='pipe'):
      read(tmp_path / 'pipe')
  with pytest.raises(FileNotFoundError):
    untrusted.read_json(tmp_path / 'missing')


def test_gzip(tmp_path):
  path = write(tmp_path / 'a.gz', gzip.compress(b'12345'))
  assert untrusted.read_gzip(path, 5) == b'12345'
  with pytest.raises(ValueError, match='4 bytes'):
    untrusted.read_gzip(path, 4)
  with pytest.raises(ValueError):
    untrusted.read_gzip(write(path, path.read_bytes()[:-9]), 5)


def test_arrays(tmp_path):
  arrays = {
    'a': np.arange(6).reshape(2, 3),
    'b': np.array([[1], [2]], np.float16).T,
  }
  np.save(tmp_path / 'a.npy', arrays['a'])
  np.savez_compressed(tmp_path / 'a.npz', allow_pickle=False, **arrays)
  for mapped in False, True:
    loaded = untrusted.load_array(tmp_path / 'a.npy', mapped=mapped)
    np.testing.assert_array_equal(loaded, arrays['a'], strict=True)
  assert untrusted.array_names(tmp_path / 'a.npz') == ['a', 'b']
  loaded = untrusted.load_arrays(tmp_path / 'a.npz')
  for name, array in arrays.items():
    np.testing.assert_array_equal(loaded[name], array, strict=True)
  assert list(untrusted.load_arrays(tmp_path / 'a.npz', ['b'])) == ['b']
  with pytest.raises(ValueError, match="'c'"):
    untrusted.load_arrays(tmp_path / 'a.npz', ['c'])


def test_what_is_not_an_array(tmp_path):
  file = io.BytesIO()
  np.save(file, np.array([None]), allow_pickle=True)
  for content in file.getvalue(), b'', b'\x93NUMPY', np.float32(0).tobytes():
    with pytest.raises(ValueError, match=r'a\.npy'):
      untrusted.load_array(write(tmp_path / 'a.npy', content))
  for content in b'', b'PK', b'PK' + bytes(99), file.getvalue():
    with pytest.raises(ValueError, match=r'a\.npz'):
      untrusted.load_arrays(write(tmp_path / 'a.npz', content))


@pytest.mark.parametrize(
  'name', ['', '.', '..', '/etc/passwd', '../x', 'a/../../x', 'a\0', None, 1]
)
def test_names_that_lead_out_of_the_folder(name):
  with pytest.raises(ValueError, match='here'):
    untrusted.check_file_name('here', name)


def test_names_within_the_folder():
  for name in 'a', 'a.b', '..a', 'a/b':
    untrusted.check_file_name('here', name)


@pytest.mark.parametrize('key', ['type', 'pythonClassName'])
def test_features_of_other_packages(tmp_path, key):
  untrusted.check_feature_classes(
    [{key: 'tensorflow_datasets.core.features.Text'}]
  )
  (tmp_path / 'features.json').write_text(f'{{"x": [{{"{key}": "os.path"}}]}}')
  with pytest.raises(ValueError, match=r'os\.path'):
    untrusted.open_prepared(tmp_path)
