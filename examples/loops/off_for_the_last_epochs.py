"""Mixing is off for the last epochs, so that training ends on clean images.

For long schedules. `mixing` is static: jit compiles a program with mixing and
one without, in which the identity costs nothing.
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


@jax.jit(static_argnames='mixing')
def train_step(state, images, labels, *, mixing):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  draw = jaxmix.draw_random_mix if mixing else jaxmix.draw_identity
  mix = draw(key, images.shape)

  def loss_fn(params):
    logits = state.apply_fn(params, jaxmix.apply(mix, images))
    return jaxmix.mixed_cross_entropy(logits, labels, mix).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for epoch in range(25):
  for rows in np.random.default_rng(epoch).permutation(1500).reshape(-1, 125):
    state = train_step(state, images[rows], labels[rows], mixing=epoch < 20)
predicted = state.apply_fn(state.params, images[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
