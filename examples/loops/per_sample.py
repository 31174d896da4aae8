"""Per sample: each image of a batch has a mode, a lambda and a box of its own.

For small batches, or many devices, where one draw for all would be noisy. It
costs more than one draw, since every mode is drawn for every image.
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
  mix = jaxmix.draw_random_mix(key, images.shape, granularity='sample')

  def loss_fn(params):
    logits = state.apply_fn(params, jaxmix.apply(mix, images))
    return jaxmix.mixed_cross_entropy(logits, labels, mix).mean()

  grads = jax.grad(loss_fn)(state.params)
  return state.apply_gradients(grads=grads), mix


for rows in np.random.default_rng(0).integers(1500, size=(300, 128)):
  state, mix = train_step(state, images[rows], labels[rows])
predicted = state.apply_fn(state.params, images[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
print('modes of the last batch', modes := np.bincount(mix.mode))
