import os

import pytest


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  """Adds fakes of the programs of a cluster, which store files in $FAKE."""

  def program(name, body):
    path = tmp_path / 'bin' / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/bash\n{body}\n')
    path.chmod(0o755)

  monkeypatch.setenv('FAKE', str(tmp_path))
  monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:{os.environ["PATH"]}')
  monkeypatch.chdir(tmp_path)
  return program
