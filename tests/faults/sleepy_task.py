"""The toy task, whose reader hangs in the process that has SLEEPS_AT."""

import os
import time

from tests.launch import toy_task
from tests.launch.toy_task import init, make_evaluators, make_loss

__all__ = ['init', 'make_evaluators', 'make_loss', 'train_data']


class Sleepy(toy_task.Rows):
  """Reads one example at a time; hangs after SLEEPS_AT examples."""

  workers = 1

  def __init__(self):
    super().__init__()
    self._left = int(os.environ.get('SLEEPS_AT', 10**9))

  def __getitem__(self, index):
    self._left -= 1
    if self._left < 0:
      time.sleep(10**6)
    return super().__getitem__(index)


def train_data(config):
  del config
  return Sleepy()
