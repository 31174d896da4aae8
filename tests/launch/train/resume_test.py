import pytest

from launch.config import write_config
from launch.train.resume import check_workdir
from tests.launch.toy_config import get_config, make_config


def test_a_flag_that_allows_too_much_is_refused(tmp_path):
  with pytest.raises(ValueError, match='--allow_resume_change=seed: '):
    check_workdir(get_config(), tmp_path, ['seed'])


def test_accepted_changes_are_returned(tmp_path):
  check_workdir(get_config(), tmp_path)
  write_config(get_config(), tmp_path)
  changes = check_workdir(
    make_config(log_every=9, epochs=6.0), tmp_path, ['epochs']
  )
  assert changes == {
    'epochs': 'resuming with epochs: 5.0 saved, 6.0 now',
    'log_every': 'resuming with log_every: 5 saved, 9 now',
  }


@pytest.mark.parametrize(
  'content',
  [b'', b'{"seed": 0', b'\xff\xfe', b'[' * 10**5, b'{"seed": NaN}', b'null'],
)
def test_a_damaged_config_is_named(tmp_path, content):
  path = tmp_path / 'config.json'
  path.write_bytes(content)
  with pytest.raises(ValueError) as error:
    check_workdir(get_config(), tmp_path)
  assert str(path) in str(error.value)
  assert 'choose another --workdir' in str(error.value)


def test_a_config_that_cannot_be_read_is_named(tmp_path):
  (tmp_path / 'config.json').symlink_to('config.json')
  with pytest.raises(ValueError, match='config.json '):
    check_workdir(get_config(), tmp_path)
