"""Weights by schedule: from Mixup at the start to CutMix at the end.

For curricula. Weights may be traced: a schedule of optax gives them from the
step, as it gives a learning rate, and the step is compiled once.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
net = nn.Sequential([nn.DenseGeneral(64, (1, 2, 3)), nn.relu, nn.Dense(10)])
params, adam = net.init(jax.random.key(0), images[:1]), optax.adam(1e-2)
state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, images, labels):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  mixup = optax.linear_schedule(1.0, 0.0, transition_steps=300)(state.step)
  weights = {'mixup': mixup, 'cutmix': 1 - mixup}
  mix = jaxmix.draw_random_mix(key, images.shape, weights=weights)

  def loss_fn(params):
    logits = state.apply_fn(params, jaxmix.apply(mix, images))
    return jaxmix.mixed_cross_entropy(logits, labels, mix).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in np.random.default_rng(0).integers(1500, size=(300, 128)):
  state = train_step(state, images[rows], labels[rows])
predicted = state.apply_fn(state.params, images[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
