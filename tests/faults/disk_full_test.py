"""R4: a disk that is full, fails or vanishes costs no checkpoint."""

import contextlib
import os
import pathlib
import resource
import shutil
import subprocess
import time

import pytest

from launch.checkpoints import manifest
from launch.verify import verify
from tests.faults import trainer
from tests.faults.conftest import FIELDS

pytestmark = pytest.mark.slow
full = pytest.mark.skipif(not trainer.FULL, reason='FAULTS=full')


@contextlib.contextmanager
def small_disk(folder, size):
  """Mounts a file system of this size; skips where that is not possible."""
  folder.mkdir()
  options = ['-o', f'size={size}', 'tmpfs', str(folder)]
  try:
    subprocess.run(
      ['mount', '-t', 'tmpfs', *options], check=True, capture_output=True
    )
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f'cannot mount a file system: {error}')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(folder: pathlib.Path) -> pathlib.Path:
  """Fills a disk; returns the file that takes the space."""
  path = folder / 'ballast'
  with path.open('wb', buffering=0) as file, contextlib.suppress(OSError):
    for size in (1 << 16, 1 << 12, 1):
      with contextlib.suppress(OSError):
        while file.write(bytes(size)) == size:
          pass
  return path


def wait_for_line(process, text):
  for line in process.stderr:
    if text in line:
      return line
  raise AssertionError(f'no line contains {text!r}')


@pytest.mark.parametrize('trial', trainer.trials(1, 10))
def test_a_run_continues_when_the_disk_has_space_again(trial, whole, tmp_path):
  del trial
  with small_disk(tmp_path / 'disk', '4m') as disk:
    workdir = disk / 'run'
    fields = {**FIELDS, 'max_save_failures': 1000}
    process = trainer.start(workdir, fields)
    trainer.wait_for_step(process, workdir, 30)
    ballast = fill(disk)
    kept = manifest.steps(workdir / 'checkpoints')
    wait_for_line(process, '/checkpoints')
    time.sleep(0.2)
    assert process.poll() is None, 'it ended, although saves may fail'
    now = manifest.steps(workdir / 'checkpoints')
    assert now and now[0] >= kept[0] and not any(verify(workdir).values())
    ballast.unlink()
    done = trainer.wait(process)
    assert done.code == 0, done.err
    trainer.assert_same_run(workdir, whole)


def test_a_full_disk_ends_the_run_and_keeps_the_checkpoint(whole, tmp_path):
  with small_disk(tmp_path / 'disk', '4m') as disk:
    workdir = disk / 'run'
    process = trainer.start(workdir, FIELDS)
    trainer.wait_for_step(process, workdir, 30)
    ballast = fill(disk)
    done = trainer.wait(process)
    trainer.refused(done, 7, 'No space left')
    warnings = [x for x in done.err.splitlines() if '/checkpoints' in x]
    assert len(warnings) == 3 + 1, done.err
    assert not any(verify(workdir).values()), 'the old checkpoint is damaged'
    left = list((workdir / 'checkpoints').glob('part-*'))
    assert not left, f'leftovers hold the space: {left}'
    ballast.unlink()
    assert trainer.train(workdir, FIELDS).code == 0
    trainer.assert_same_run(workdir, whole)


def test_a_disk_that_is_too_small_is_detected_before_the_first_step(tmp_path):
  with small_disk(tmp_path / 'disk', '150k') as disk:
    done = trainer.train(disk / 'run', FIELDS)
    trainer.refused(done, 7, 'MB', 'config.keep_checkpoints')
    assert 'first 1 steps' not in done.err


def test_a_workdir_that_vanishes_is_not_created_again(whole, tmp_path):
  workdir, elsewhere = tmp_path / 'run', tmp_path / 'elsewhere'
  process = trainer.start(workdir, FIELDS)
  trainer.wait_for_step(process, workdir, 30)
  workdir.rename(elsewhere)
  done = trainer.wait(process)
  trainer.refused(done, 7, str(workdir))
  left = list(workdir.rglob('*'))
  assert not workdir.exists(), f'part of a run was created in its place: {left}'
  elsewhere.rename(workdir)
  assert trainer.train(workdir, FIELDS).code == 0
  trainer.assert_same_run(workdir, whole)


@full
def test_a_workdir_that_comes_back_loses_no_metrics(whole, tmp_path):
  workdir, elsewhere = tmp_path / 'run', tmp_path / 'elsewhere'
  process = trainer.start(workdir, {**FIELDS, 'max_save_failures': 1000})
  trainer.wait_for_step(process, workdir, 30)
  workdir.rename(elsewhere)
  wait_for_line(process, '/checkpoints')
  elsewhere.rename(workdir)
  done = trainer.wait(process)
  assert done.code == 0, done.err
  trainer.assert_same_run(workdir, whole)


def limit_files(size):
  def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

  return limit


@full
def test_a_limit_of_file_sizes_is_a_full_disk(tmp_path):
  # Smaller than the files of a checkpoint, larger than config.json.
  done = trainer.train(
    tmp_path, FIELDS, '--compilation_cache=', preexec_fn=limit_files(1200)
  )
  trainer.refused(done, 7, 'File too large')
  assert not manifest.steps(tmp_path / 'checkpoints')
  assert not list(tmp_path.glob('**/part-*'))


@full
def test_tensorboard_on_a_full_disk_does_not_stop_the_run(whole, tmp_path):
  with small_disk(tmp_path / 'disk', '4m') as disk:
    workdir = disk / 'run'
    fields = {**FIELDS, 'tensorboard': True, 'max_save_failures': 1000}
    process = trainer.start(workdir, fields)
    trainer.wait_for_step(process, workdir, 30)
    ballast = fill(disk)
    # Writes that fit into the last page of a file still succeed.
    wait_for_line(process, '/checkpoints')
    time.sleep(0.2)
    ballast.unlink()
    done = trainer.wait(process)
    assert done.code == 0, done.err
    trainer.assert_same_run(workdir, whole)


# fsync: from the seventh call on; the others are of config.json, metrics.jsonl
# and env.json.
# mkdir: every call, because only the folder of a save is created.
INJECTED = [
  ('fsync', 'EIO', 7),
  ('fsync', 'ENOSPC', 7),
  ('fsync', 'EDQUOT', 7),
  ('mkdir', 'EROFS', 1),
  ('mkdir', 'EACCES', 1),
]


@pytest.mark.skipif(not shutil.which('strace'), reason='needs strace')
@pytest.mark.parametrize(
  'call, error, first', INJECTED if trainer.FULL else INJECTED[:1]
)
def test_a_failed_system_call_is_a_failed_save(
  call, error, first, whole, tmp_path
):
  workdir = tmp_path / 'run'
  shutil.copytree(whole, workdir)
  # As if the last evaluation and the last checkpoint had not been written.
  shutil.rmtree(workdir / 'checkpoints' / '125')
  lines = (workdir / 'metrics.jsonl').read_text().splitlines(keepends=True)
  (workdir / 'metrics.jsonl').write_text(''.join(lines[:-2]))
  refusing = ['strace', '-f', '-qq', '-o', os.devnull, '-e', f'trace={call}']
  refusing += ['-e', f'inject={call}:error={error}:when={first}+']
  fields = {**FIELDS, 'max_save_failures': 1}
  done = trainer.train(workdir, fields, '--compilation_cache=', within=refusing)
  trainer.refused(done, 7, 'step 125')
  assert manifest.steps(workdir / 'checkpoints') == [121]
  assert not any(verify(workdir).values())
  assert trainer.train(workdir, FIELDS).code == 0
  trainer.assert_same_run(workdir, whole)
