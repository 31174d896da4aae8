"""The toy task, with the numerical fault `spoil` at step `spoil_at`."""

import jax
import jax.numpy as jnp

from tests.launch import toy_task
from tests.launch.toy_task import init, make_evaluators, train_data

__all__ = ['init', 'make_evaluators', 'make_loss', 'train_data']


def make_loss(config, mesh):
  toy = toy_task.make_loss(config, mesh)
  at = config.spoil_at

  def loss(params, model_state, batch, key):
    # A skipped step does not increase the count, so that the fault would occur
    # again at once; `batch` depends on the batch instead.
    bad = model_state['steps'] + 1 == at
    if config.spoil == 'lambda':
      lam = jnp.where(bad, jnp.nan, 1.0)
      batch = {**batch, 'x': lam * batch['x']}
    value, rest = toy(params, model_state, batch, key)
    if config.spoil == 'gradient':
      value += jnp.sqrt(jnp.where(bad, 0 * params['w2'][0, 0], 1.0)) - 1
    elif config.spoil == 'infinite':
      value += jnp.where(bad, jnp.inf, 0.0)
    elif config.spoil == 'batch':
      value += jnp.where(batch['x'][0, 0] > 1.5, jnp.nan, 0.0)
    elif config.spoil == 'moments':
      # A gradient of 1e25 is finite; its square, in Adam, is not.
      w = params['w1'][0, 0]
      value += jnp.where(bad, 1e25 * (w - jax.lax.stop_gradient(w)), 0.0)
    return value, rest

  return loss
