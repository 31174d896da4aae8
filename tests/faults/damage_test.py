"""R3: damaged checkpoint files are detected, and older ones are used."""

import random
import shutil
import subprocess
import sys

import pytest

from launch.checkpoints import manifest
from launch.verify import verify
from tests.faults import trainer
from tests.faults.conftest import FIELDS

pytestmark = pytest.mark.slow

NEWEST, BEFORE = 125, 121
FLIPS, CUTS = 32, (0, 0.5, 0.99)
# More than a checkpoint has; the surplus trials are skipped.
MOST_FILES = 20


@pytest.fixture(scope='module')
def stopped(whole, tmp_path_factory):
  """A copy of the run that looks as if it died before its last evaluation."""
  workdir = tmp_path_factory.mktemp('stopped') / 'run'
  shutil.copytree(whole, workdir)
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines(keepends=True)
  assert '"final": true' in lines[-1]
  path.write_text(''.join(lines[:-1]))
  assert manifest.steps(workdir / 'checkpoints') == [BEFORE, NEWEST]
  return workdir


def files(workdir, step):
  folder = workdir / 'checkpoints' / str(step)
  return sorted(
    (p for p in folder.rglob('*') if p.is_file()),
    key=lambda p: (len(p.parts), p.stat().st_size, p.name),
  )


def flip(path, rng):
  data = bytearray(path.read_bytes())
  offset, bit = rng.randrange(len(data)), rng.randrange(8)
  data[offset] ^= 1 << bit
  path.write_bytes(data)
  return f'bit {bit} of byte {offset} of {path.name} flipped'


def cut(path, fraction):
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * fraction)])
  return f'{path.name} cut to {fraction:.0%} of {len(data)} bytes'


def damages(number):
  """Returns the damages to file `number`: functions of its path."""
  flips = [
    lambda path, n=n: flip(path, random.Random(f'{number}/{n}'))
    for n in range(FLIPS)
  ]
  cuts = [
    lambda path, fraction=fraction: cut(path, fraction) for fraction in CUTS
  ]
  if trainer.FULL:
    return flips + cuts
  # One of the 35 per file, a different one for each.
  return [(flips + cuts)[number * 7 % 35]]


@pytest.mark.parametrize('number', range(MOST_FILES if trainer.FULL else 3))
def test_no_damage_is_silent(number, stopped, whole, tmp_path):
  count = len(files(stopped, NEWEST))
  assert count <= MOST_FILES, 'some files would not be tried'
  if number >= count:
    pytest.skip(f'a checkpoint has {count} files')
  for trial, damage in enumerate(damages(number)):
    workdir = tmp_path / str(trial)
    shutil.copytree(stopped, workdir)
    path = files(workdir, NEWEST)[number]
    what = damage(path)
    found = verify(workdir)
    assert found[NEWEST] and path.name in found[NEWEST], f'{what}: {found}'
    assert found[BEFORE] is None, f'{what}: {found}'
    done = trainer.train(workdir, FIELDS)
    assert done.code == 0, f'{what}: {done.err}'
    warnings = [x for x in done.err.splitlines() if x.startswith('warning')]
    assert len(warnings) == 1, f'{what}: {done.err}'
    assert f'checkpoint {NEWEST}' in warnings[0], what
    (aside,) = (workdir / 'damaged').iterdir()
    assert aside.name.startswith(f'{NEWEST}-'), what
    assert f': step {BEFORE} of 125' in done.err, what
    trainer.assert_same_run(workdir, whole)
    shutil.rmtree(workdir)


def test_without_any_good_checkpoint_the_run_ends_and_keeps_all_files(
  stopped, tmp_path
):
  workdir = tmp_path / 'run'
  shutil.copytree(stopped, workdir)
  for step in (BEFORE, NEWEST):
    cut(max(files(workdir, step), key=lambda p: p.stat().st_size), 0.5)
  before = sorted(workdir.rglob('*'))
  done = trainer.train(workdir, FIELDS)
  trainer.refused(done, 4, '[121, 125]')
  after = {p for p in workdir.rglob('*') if p.name not in ('lock',)}
  assert after >= set(before), 'a file was removed'


def test_verify_reports_what_a_run_would_find(stopped, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(stopped, workdir)

  def verified():
    command = [sys.executable, '-m', 'launch.verify', str(workdir)]
    return subprocess.run(
      command, capture_output=True, text=True, cwd=trainer.ROOT
    )

  good = verified()
  assert good.returncode == 0 and good.stderr == '', good
  assert 'step 125: ' in good.stdout and 'from step 125' in good.stdout
  what = flip(files(workdir, NEWEST)[-1], random.Random(0))
  bad = verified()
  assert bad.returncode == 4, what
  assert 'step 125: ' in bad.stdout and 'from step 121' in bad.stdout
  (line,) = bad.stderr.splitlines()
  assert line.startswith('error: ') and '[125]' in line
  # An extra file and a missing file count as damage.
  extra = files(workdir, BEFORE)[0].with_name('extra')
  extra.write_text('')
  assert 'extra' in str(verify(workdir)[BEFORE])
  extra.unlink()
  assert verify(workdir)[BEFORE] is None
  missing = files(workdir, BEFORE)[-1]
  missing.unlink()
  assert missing.name in str(verify(workdir)[BEFORE])


def test_a_manifest_cannot_name_files_elsewhere(stopped, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(stopped, workdir)
  folder = workdir / 'checkpoints' / str(NEWEST)
  content = manifest.read(folder)
  content['files']['../../../config.json'] = {'bytes': 1, 'sha256': ''}
  (folder / manifest.NAME).write_bytes(manifest._encode(content))
  assert 'config.json' in str(verify(workdir)[NEWEST])
  # A link is not accepted as a file.
  path = files(workdir, BEFORE)[-1]
  path.rename(tmp_path / 'elsewhere')
  path.symlink_to(tmp_path / 'elsewhere')
  assert path.name in str(verify(workdir)[BEFORE])
