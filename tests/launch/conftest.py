"""Fixtures for tests of programs of `launch` in this process."""

import sys

import pytest
from absl import flags
from absl.testing import flagsaver


@pytest.fixture
def argv(monkeypatch):
  """`argv(*flags)` sets and returns the arguments of the process.

  After the test the flags have their values of before.
  """

  def set_argv(*arguments):
    monkeypatch.setattr(sys, 'argv', ['launch.main', *map(str, arguments)])
    return sys.argv  # ml_collections reads it too

  with flagsaver.flagsaver():
    yield set_argv
    for name in [n for n in flags.FLAGS if n.startswith('config.')]:
      delattr(flags.FLAGS, name)
