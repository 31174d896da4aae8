"""Configs of a task with one field changed, and the checks before a run."""

import functools

import jax
from ml_collections import ConfigDict

from launch.config import check_config
from launch.mesh import make_mesh


def with_field(whole, field, value):
  """Returns a locked config of `whole`, a dict, with one field set in place."""
  block = whole
  *parents, name = field.split('.')
  for parent in parents:
    block = block[parent]
  block[name] = value
  return ConfigDict(whole).lock()


def begin(task, config):
  """Does the cheap part of what happens before the first step."""
  check_config(config, task.SCHEMA)
  mesh = make_mesh()
  task.train_data(config)
  task.make_loss(config, mesh)
  task.make_evaluators(config, mesh)
  jax.eval_shape(functools.partial(task.init, config), jax.random.key(0))
