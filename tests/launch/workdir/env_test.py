import json

import pytest

from launch.workdir import env


def test_a_start_is_recorded_with_the_type_of_machine(tmp_path):
  env.record_start(tmp_path, 0)
  (start,) = json.loads((tmp_path / 'env.json').read_text())
  assert start['cpu'] and start['cores'] >= 1
  (name,) = env.machines(tmp_path)
  assert name.endswith(f' × cpu ({start["cpu"]}, {start["cores"]} cores)')
  start['devices'] = ['H100', 'H100']
  (tmp_path / 'env.json').write_text(json.dumps([start, start]))
  assert env.machines(tmp_path) == ['2 × H100']
  del start['cpu']
  start['devices'] = ['cpu']  # of an older version
  (tmp_path / 'env.json').write_text(json.dumps([start]))
  assert env.machines(tmp_path) == []


@pytest.mark.parametrize('text', ['{', '[3]', '[{}]', '{"devices": 1}'])
def test_an_invalid_file_names_no_machine(tmp_path, text):
  (tmp_path / 'env.json').write_text(text)
  assert env.machines(tmp_path) == []
