import ctypes
import platform
import subprocess
import sys

import pytest

from launch.shell import malloc

PROGRAM = """
import resource, sys
if sys.argv[1] == 'kept':
  from launch.shell.malloc import keep_freed_memory
  assert keep_freed_memory()
import jax
x = jax.numpy.zeros((10_000_000,))
step = jax.jit(lambda x: x + 1)
for count in range(220):
  if count == 200:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  step(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(setting):
  command = [sys.executable, '-c', PROGRAM, setting]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='only glibc has these settings'
)
def test_steps_reuse_the_memory_of_earlier_steps():
  pages = 20 * 40_000_000 // 4096
  assert page_faults('default') > pages / 2, 'the settings have become useless'
  # The heap still grows by a buffer occasionally.
  assert page_faults('kept') < pages / 5


@pytest.mark.parametrize('name', ['darwin', 'linux'])
def test_without_glibc_it_does_nothing(name, monkeypatch):
  monkeypatch.setattr(malloc.sys, 'platform', name)
  monkeypatch.setattr(ctypes, 'CDLL', lambda name: object())
  assert not malloc.keep_freed_memory()
