"""The toy task with the data fault that `config.data.dir` names."""

import numpy as np

from tests.launch import toy_task
from tests.launch.toy_task import init, make_evaluators, make_loss

__all__ = ['init', 'make_evaluators', 'make_loss', 'train_data']

ROW = 57


def spoil(how):
  made = toy_task.arrays()
  if how == 'nan':
    made['x'][ROW, 2] = np.nan
  elif how == 'infinite':
    made['x'][ROW, 2] = np.inf
  elif how == 'objects':
    made['y'] = made['y'].astype(object)
  elif how == 'too long':
    made['y'] = made['y'].astype(np.int64)
    made['y'][ROW] = 2**32 + 1
  elif how == 'uneven':
    made['y'] = made['y'][:-1]
  elif how == 'empty':
    made = {name: array[:0] for name, array in made.items()}
  return made


def train_data(config):
  return spoil(config.data.dir)
