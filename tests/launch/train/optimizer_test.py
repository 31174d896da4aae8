"""The optimizer against torch's update rules, written out in numpy."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from launch.mesh import make_mesh
from launch.train.feeds import Feed
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.schedule import StepSchedule
from launch.train.state import TrainState
from launch.train.step import make_train_steps
from tests.launch.toy_config import get_config

SCHEDULE = StepSchedule(10, 100, 10, 1)  # 100 steps
RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


PARAMS = {'w': normal(3, 2), 'bias': normal(2)}
GRADS = [{'w': normal(3, 2), 'bias': normal(2)} for _ in range(5)]


def optimizer_config(adam=False, **fields):
  config = get_config('adam' if adam else None).optimizer
  config.update({'warmup_epochs': 0.0, **fields})
  return config


def run(config):
  schedule = make_schedule(config, SCHEDULE)
  optimizer = make_optimizer(config, schedule)

  @jax.jit
  def train(params):
    state = optimizer.init(params)
    for grads in GRADS:
      updates, state = optimizer.update(grads, state, params, applied=True)
      params = optax.apply_updates(params, updates)
    return params

  return cast(dict[str, np.ndarray], train(PARAMS))


def torch_sgd(config, p, grads):
  # torch.optim.SGD, https://docs.pytorch.org/docs/stable/generated/
  # torch.optim.SGD.html, with dampening 0.
  buffer = None
  for step, g in enumerate(grads):
    lr = config.lr
    if config.schedule == 'cosine':
      lr = config.lr * (1 + np.cos(np.pi * step / SCHEDULE.total_steps)) / 2
    g = g + config.weight_decay * p
    if config.momentum:
      buffer = g if buffer is None else config.momentum * buffer + g
      g = g + config.momentum * buffer if config.nesterov else buffer
    p = p - lr * g
  return p


@pytest.mark.parametrize(
  'schedule, momentum, nesterov',
  [
    ('cosine', 0.9, False),
    ('cosine', 0.9, True),
    ('cosine', 0.0, False),
    ('constant', 0.9, True),
  ],
)
def test_sgd_is_that_of_torch(schedule, momentum, nesterov):
  config = optimizer_config(
    schedule=schedule, momentum=momentum, nesterov=nesterov, weight_decay=0.1
  )
  ours = run(config)
  for name, p in PARAMS.items():
    np.testing.assert_allclose(
      ours[name],
      torch_sgd(config, p, [g[name] for g in GRADS]),
      rtol=1e-5,
      atol=1e-6,
      err_msg=f'{name}: not the update of torch.optim.SGD (is the weight decay '
      'added to the gradient of every parameter?)',
    )


def test_adam_is_that_of_torch():
  config = optimizer_config(adam=True, schedule='constant', weight_decay=0.1)
  ours = run(config)
  for name, p in PARAMS.items():
    m = v = np.zeros_like(p)
    for t, grads in enumerate(GRADS, 1):
      g = grads[name] + config.weight_decay * p
      m = config.b1 * m + (1 - config.b1) * g
      v = config.b2 * v + (1 - config.b2) * g**2
      denominator = np.sqrt(v / (1 - config.b2**t)) + 1e-8
      p = p - config.lr * m / (1 - config.b1**t) / denominator
    np.testing.assert_allclose(ours[name], p, rtol=1e-5)


def test_cosine_goes_from_lr_to_zero_without_restarts():
  schedule = make_schedule(optimizer_config(lr=0.4), SCHEDULE)
  rates = np.array(schedule(np.arange(101)))
  np.testing.assert_allclose(rates[[0, 50, 100]], [0.4, 0.2, 0], atol=1e-7)
  assert (np.diff(rates) < 0).all(), 'the rate must fall at every step'


@pytest.mark.parametrize('warmup_epochs', [0.1, 2.0])
def test_warmup_climbs_to_lr_and_the_cosine_takes_the_rest(warmup_epochs):
  config = optimizer_config(lr=0.4, warmup_epochs=warmup_epochs)
  rates = np.array(make_schedule(config, SCHEDULE)(np.arange(101)))
  warmup = round(warmup_epochs * 10)
  np.testing.assert_allclose(
    rates[:warmup], 0.4 * np.arange(1, warmup + 1) / warmup, rtol=1e-5
  )
  assert rates[warmup] == pytest.approx(0.4)
  assert rates[100] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize('adam', [False, True])
def test_what_is_not_applied_changes_no_moment(adam):
  config = optimizer_config(adam=adam)
  optimizer: Any = make_optimizer(config, make_schedule(config, SCHEDULE))

  @jax.jit
  def update(grads, state, applied):
    return optimizer.update(grads, state, PARAMS, applied=applied)[1]

  state = update(GRADS[0], jax.jit(optimizer.init)(PARAMS), np.True_)
  spoiled = {**GRADS[1], 'bias': np.array([np.nan, np.inf], np.float32)}
  after = update(spoiled, state, np.False_)
  # All but the count of the schedule, which is that of the steps.
  assert after[2].count == state[2].count + 1
  jax.tree.map(np.testing.assert_array_equal, after[:2], state[:2])


@pytest.mark.slow
@pytest.mark.parametrize('adam', [False, True])
def test_what_is_donated_is_not_copied(adam):
  config = optimizer_config(adam=adam)
  schedule = make_schedule(config, SCHEDULE)
  optimizer = make_optimizer(config, schedule)
  mesh = make_mesh()

  def loss(params, model_state, batch, key):
    del key
    x = batch['x']
    for w in params.values():
      x = jnp.tanh(x @ w)
    return jnp.sum(x), (model_state, {})

  def chunks(step):
    raise AssertionError(f'the chunks from step {step} on are not needed')

  feed = Feed(SCHEDULE, {}, lambda data, item: item, chunks)
  params = {f'w{i}': jnp.zeros((96, 96)) for i in range(3)}
  state = TrainState(
    step=jnp.int32(0),
    skipped=jnp.int32(0),
    params=params,
    opt_state=optimizer.init(params),
    model_state={},
  )
  program: Any = make_train_steps(
    loss, optimizer, schedule, feed, mesh, looped=True
  )
  chunk = {'x': jnp.zeros((1, 8, 96))}
  text = program.lower(state, {}, chunk, jax.random.key(0)).compile().as_text()
  assert ' = f32[96,96]{1,0} copy(' not in text, (
    'a parameter or a moment is copied in every step before it is overwritten'
  )
