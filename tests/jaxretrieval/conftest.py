import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
  """No test may find, or write to, the data sets of whoever runs it."""
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))


@pytest.fixture(scope='session')
def shared():
  """Gives the folder of a real data set, or skips the test."""

  def folder(name):
    path = ROOT.parent / 'shared' / 'data' / name
    if not path.is_dir():
      pytest.skip(f'needs the real {name} ({path} is not here)')
    return path

  return folder


@pytest.fixture(scope='session')
def flickr8k_folder(shared, tmp_path_factory):
  """The real Flickr8k as a feature set; about five seconds."""
  from jaxretrieval.feature_sets import locate

  ref = {
    'name': 'flickr8k',
    'text_encoder': '',
    'source': str(shared('flickr8k')),
  }
  return locate.find(ref | {'dir': str(tmp_path_factory.mktemp('prepared'))})
