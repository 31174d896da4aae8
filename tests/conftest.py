"""Runs before jax is imported: how many devices, how many threads, the cache.

`make test` runs the suite twice: once on one device, once with
`JAX_NUM_CPU_DEVICES=8` for the tests marked `devices`.
"""

import fcntl
import os
import pathlib
import tempfile

# XLA sizes its thread pool by NPROC; with fewer threads than twice the devices
# queued collectives can deadlock on a small machine.
os.environ.setdefault(
  'NPROC', str(2 * int(os.environ.get('JAX_NUM_CPU_DEVICES', '1')) + 2)
)
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Subprocesses of the tests (trainers, benchmarks) share the compiled programs.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(pathlib.Path(tempfile.gettempdir()) / f'jaxmix_test_cache_{os.getuid()}'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
  enough = jax.device_count() >= 8
  for item in items:
    if item.get_closest_marker('devices') and not enough:
      item.add_marker(
        pytest.mark.skip(reason='needs JAX_NUM_CPU_DEVICES=8 (make test)')
      )


@pytest.fixture(scope='session')
def made_once(tmp_path_factory):
  """Makes a folder that all workers of a session read, and none changes."""
  base = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    base = base.parent

  def made(name, make):
    with (base / f'{name}.lock').open('w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not (base / name).exists():
        part = base / f'{name}.part'
        make(part)
        part.rename(base / name)
    return base / name

  return made


@pytest.fixture(scope='session')
def cifar100_archive(made_once):
  """Folder with the real CIFAR-100 in its publisher's binary layout."""
  import subprocess
  import sys

  unpack = ROOT.parent / 'shared' / 'data' / 'unpack.py'
  if not unpack.exists():
    pytest.skip(f'needs the real CIFAR-100 ({unpack} is not here)')

  def make(out):
    subprocess.run([sys.executable, unpack, 'cifar100', out], check=True)

  return made_once('cifar100', make) / 'cifar-100-binary'
