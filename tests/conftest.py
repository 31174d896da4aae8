"""Settings of the test session: devices, threads, compilation cache, memory.

It must run before jax is imported. `make test-all` runs the tests marked
`devices` with `JAX_NUM_CPU_DEVICES=8`; all others have one device.
"""

import ctypes
import fcntl
import gc
import os
import pathlib
import resource
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
_KEPT_BYTES = 2**30
_PEAKS: list[int] = []


def pytest_collection_modifyitems(items):
  enough = jax.device_count() >= 8
  for item in items:
    if item.get_closest_marker('devices') and not enough:
      item.add_marker(
        pytest.mark.skip(reason='needs JAX_NUM_CPU_DEVICES=8 (make test-all)')
      )


@pytest.fixture(scope='module', autouse=True)
def release_memory():
  """Drops compiled programs between test files, before they fill the memory."""
  yield
  if _resident_bytes() > _KEPT_BYTES:
    jax.clear_caches()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
  pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
  return int(pages) * resource.getpagesize()


def pytest_sessionfinish(session):
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  if hasattr(session.config, 'workeroutput'):
    session.config.workeroutput['peak'] = peak
  else:
    _PEAKS.append(peak)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  _PEAKS.append(getattr(node, 'workeroutput', {}).get('peak', 0))


def pytest_terminal_summary(terminalreporter):
  shown = ', '.join(f'{peak / 2**20:.2f}' for peak in _PEAKS)
  terminalreporter.write_line(f'peak memory in GB, by process: {shown}')


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
