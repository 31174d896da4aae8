"""R10: disks that are full, forbidden or gone; files that may not grow."""

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

STEP_BY_STEP = {**FIELDS, 'slow_evaluation': 0.5}


@contextlib.contextmanager
def small_disk(folder, size):
  """A file system of so many bytes; skips where none can be mounted."""
  folder.mkdir()
  options = ['-o', f'size={size}', 'tmpfs', str(folder)]
  try:
    subprocess.run(
      ['mount', '-t', 'tmpfs', *options], check=True, capture_output=True
    )
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f'no file system can be mounted here: {error}')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(folder: pathlib.Path) -> pathlib.Path:
  """Takes all the space of a disk; returns the file that has it."""
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
  raise AssertionError(f'it never said {text!r}')


@pytest.mark.parametrize('trial', trainer.trials(1, 10))
def test_when_space_returns_the_run_goes_on_and_nothing_is_lost(
  trial, whole, tmp_path
):
  del trial
  with small_disk(tmp_path / 'disk', '4m') as disk:
    workdir = disk / 'run'
    fields = {**FIELDS, 'max_save_failures': 1000}
    process = trainer.start(workdir, fields)
    trainer.wait_for_step(process, workdir, 30)
    ballast = fill(disk)
    kept = manifest.steps(workdir / 'checkpoints')
    wait_for_line(process, 'was not saved')
    time.sleep(0.2)
    assert process.poll() is None, 'it gave up, though it may fail'
    now = manifest.steps(workdir / 'checkpoints')
    assert now and now[0] >= kept[0] and not any(verify(workdir).values())
    ballast.unlink()
    done = trainer.wait(process)
    assert done.code == 0, done.err
    trainer.assert_same_run(workdir, whole)


def test_a_disk_that_stays_full_ends_the_run_and_keeps_the_checkpoint(
  whole, tmp_path
):
  with small_disk(tmp_path / 'disk', '4m') as disk:
    workdir = disk / 'run'
    process = trainer.start(workdir, FIELDS)
    trainer.wait_for_step(process, workdir, 30)
    ballast = fill(disk)
    done = trainer.wait(process)
    trainer.refused(
      done, 7, 'No space left', 'failure 4 in a row', 'The newest checkpoint'
    )
    assert done.err.count('warning: step') == 3, done.err
    assert not any(verify(workdir).values()), 'the old checkpoint is damaged'
    left = list((workdir / 'checkpoints').glob('part-*'))
    assert not left, f'leftovers hold the space: {left}'
    ballast.unlink()
    assert trainer.train(workdir, FIELDS).code == 0
    trainer.assert_same_run(workdir, whole)


def test_a_disk_that_is_too_small_is_told_before_the_first_step(tmp_path):
  with small_disk(tmp_path / 'disk', '150k') as disk:
    done = trainer.train(disk / 'run', FIELDS)
    trainer.refused(done, 7, 'MB free', 'need', 'config.keep_checkpoints')
    assert 'first 1 steps' not in done.err


def test_a_workdir_that_vanishes_is_not_made_again(whole, tmp_path):
  workdir, elsewhere = tmp_path / 'run', tmp_path / 'elsewhere'
  process = trainer.start(workdir, FIELDS)
  trainer.wait_for_step(process, workdir, 30)
  workdir.rename(elsewhere)
  done = trainer.wait(process)
  trainer.refused(done, 7, 'No such file or directory', str(workdir))
  left = list(workdir.rglob('*'))
  assert not workdir.exists(), f'half a run was made in its place: {left}'
  elsewhere.rename(workdir)
  assert trainer.train(workdir, FIELDS).code == 0
  trainer.assert_same_run(workdir, whole)


def test_a_workdir_that_comes_back_loses_no_row(whole, tmp_path):
  workdir, elsewhere = tmp_path / 'run', tmp_path / 'elsewhere'
  process = trainer.start(workdir, {**FIELDS, 'max_save_failures': 1000})
  trainer.wait_for_step(process, workdir, 30)
  workdir.rename(elsewhere)
  wait_for_line(process, 'was not saved')
  elsewhere.rename(workdir)
  done = trainer.wait(process)
  assert done.code == 0, done.err
  trainer.assert_same_run(workdir, whole)


def limit_files(size):
  def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

  return limit


def test_files_that_may_not_grow_are_a_full_disk(tmp_path):
  # A limit below a checkpoint's files, above config.json and the first rows.
  done = trainer.train(
    tmp_path, FIELDS, '--compilation_cache=', preexec_fn=limit_files(1200)
  )
  trainer.refused(done, 7, 'File too large', 'in a row')
  assert not manifest.steps(tmp_path / 'checkpoints')
  assert not list(tmp_path.glob('**/part-*'))


def test_tensorboard_on_a_full_disk_stops_no_run(whole, tmp_path):
  with small_disk(tmp_path / 'disk', '4m') as disk:
    workdir = disk / 'run'
    fields = {**FIELDS, 'tensorboard': True, 'max_save_failures': 1000}
    process = trainer.start(workdir, fields)
    trainer.wait_for_step(process, workdir, 30)
    ballast = fill(disk)
    # What has room in the last page of its file is still written.
    wait_for_line(process, 'was not saved')
    time.sleep(0.2)
    ballast.unlink()
    done = trainer.wait(process)
    assert done.code == 0, done.err
    trainer.assert_same_run(workdir, whole)


# fsync: from the seventh on, those before are of config.json, metrics.jsonl and
# env.json. mkdir: all of them, as every folder but that of a save is there.
INJECTED = [
  ('fsync', 'EIO', 7),
  ('fsync', 'ENOSPC', 7),
  ('fsync', 'EDQUOT', 7),
  ('mkdir', 'EROFS', 1),
  ('mkdir', 'EACCES', 1),
]


@pytest.mark.skipif(not shutil.which('strace'), reason='needs strace')
@pytest.mark.parametrize(
  'call, error, first', INJECTED if trainer.FULL else INJECTED[::3]
)
def test_what_the_system_refuses_is_a_failed_save(
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
  trainer.refused(done, 7, 'failure 2 in a row')
  assert manifest.steps(workdir / 'checkpoints') == [121]
  assert not any(verify(workdir).values())
  assert trainer.train(workdir, FIELDS).code == 0
  trainer.assert_same_run(workdir, whole)
