"""Runs before jax is imported: how many devices, how many threads, the cache.

`make test` runs the suite twice: once on one device, once with
`JAX_NUM_CPU_DEVICES=8` for the tests marked `devices`.
"""

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
def cifar100_archive(tmp_path_factory):
  """Folder with the real CIFAR-100 in its publisher's binary layout."""
  import subprocess
  import sys

  unpack = ROOT.parent / 'shared' / 'data' / 'unpack.py'
  if not unpack.exists():
    pytest.skip(f'needs the real CIFAR-100 ({unpack} is not here)')
  out = tmp_path_factory.mktemp('cifar100')
  subprocess.run([sys.executable, unpack, 'cifar100', out], check=True)
  return out / 'cifar-100-binary'
