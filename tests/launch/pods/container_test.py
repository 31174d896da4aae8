"""The container file: its names exist, and its files are enough to train."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.launch.pods.files import PODS, ROOT, documented


def instructions():
  text = re.sub(r'\\\n', '', (PODS / 'Containerfile').read_text())
  lines = [x for x in text.splitlines() if x and not x.startswith('#')]
  return [line.split(maxsplit=1) for line in lines]


def build_arguments():
  found = [rest for verb, rest in instructions() if verb == 'ARG']
  return dict(x.split('=', 1) for x in found)


def test_the_container_installs_extras_that_exist():
  found = build_arguments()
  extras = set(found['EXTRAS'].split(','))
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert extras <= project['optional-dependencies'].keys(), extras
  name, _, extra = found['JAX'].rstrip(']').partition('[')
  known = importlib.metadata.metadata(name).get_all('Provides-Extra') or []
  assert extra in known, f'{name} has no extra {extra}: {known}'
  installs = [x for verb, x in instructions() if verb == 'RUN' and 'pip' in x]
  assert len(installs) == 1 and '-c constraints.txt' in installs[0]


def test_the_container_runs_the_trainer_without_root():
  lines = dict(instructions()[::-1])  # the first of each instruction
  assert lines['FROM'] == '${BASE}'
  jobset = (PODS / 'gke_jobset.yaml').read_text()
  assert f'runAsUser: {lines["USER"]}\n' in jobset and lines['USER'] != '0'
  (added,) = [x for verb, x in instructions() if 'useradd' in x]
  assert lines['USER'] in added.split()
  assert lines['ENTRYPOINT'] == '["python", "-m", "launch.main"]'
  config = documented(jobset)['CONFIG']
  assert config.startswith('configs/'), 'the container has no such config'


@pytest.mark.slow
def test_the_copied_files_are_enough_to_train(tmp_path):
  app = tmp_path / 'app'
  app.mkdir()
  for verb, rest in instructions():
    if verb != 'COPY':
      continue
    *sources, target = rest.split()
    for source in sources:
      place = app / (source if target == './' else target)
      assert (ROOT / source).exists(), f'{source} does not exist'
      if (ROOT / source).is_dir():
        shutil.copytree(ROOT / source, place)
      else:
        shutil.copy(ROOT / source, place)
  project = tomllib.loads((app / 'pyproject.toml').read_text())['project']
  for name in (project['readme'], *project['license-files']):
    assert (app / name).exists(), f'pip needs {name}'
  code = (
    'import sys, launch.cli, configs.imagenet_resnet50\n'
    'import jaxmix.classification.task, jaxretrieval.task\n'
    "ours = ('launch', 'configs', 'jaxmix', 'jaxretrieval')\n"
    'print([m.__file__ for n, m in sys.modules.items() if n in ours])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=app, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert str(ROOT) + '/' not in done.stdout, 'imported from the clone'
