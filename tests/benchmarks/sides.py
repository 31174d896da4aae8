"""Small sides for the tests of benchmarks.harness.rounds."""

import os
import sys


def one(*, value):
  """One call; prints where a careless library would."""
  print('noise on stdout')
  calls = []

  def call():
    print('more noise')
    calls.append(value)

  return call, {'value': value, 'calls': calls}


def several(*, log):
  """Two calls, which write down when they ran."""

  def note(name):
    with open(log, 'a') as file:
      file.write(name)

  facts = {'keeps': os.environ['MALLOC_MMAP_MAX_'], 'own': os.environ['OWN']}
  return {'a': lambda: note('a'), 'b': lambda: note('b')}, facts


def broken():
  """Cannot be set up."""
  sys.exit(7)


def breaks():
  """Fails in its call."""

  def call():
    raise ArithmeticError('no more')

  return call, {}
