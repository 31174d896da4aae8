"""Small sides for the tests of `benchmarks.harness.rounds`."""

import os
import sys


def one(*, value):
  """Returns one call, and prints to stdout as some libraries do."""
  print('noise on stdout')
  calls = []

  def call():
    print('more noise')
    calls.append(value)

  return call, {'value': value, 'calls': calls}


def several(*, log):
  """Returns two calls that log their names."""

  def note(name):
    with open(log, 'a') as file:
      file.write(name)

  facts = {'keeps': os.environ['MALLOC_MMAP_MAX_'], 'own': os.environ['OWN']}
  return {'a': lambda: note('a'), 'b': lambda: note('b')}, facts


def broken():
  """Exits while it is set up."""
  sys.exit(7)


def breaks():
  """Returns a call that fails."""

  def call():
    raise ArithmeticError('no more')

  return call, {}
