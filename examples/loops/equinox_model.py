"""Equinox: the batch is mixed first, then the model runs on each image.

For models of single images: jaxmix mixes whole batches, outside of the
`jax.vmap` over the model. `eqx.filter_jit` makes the options static.
"""

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = jax.numpy.reshape(images, (-1, 8, 8, 1)) / 16
model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))
optimizer = optax.adam(1e-2)
opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))


def loss_fn(model, images, labels):
  logits = jax.vmap(model)(images.reshape(-1, 64))
  return optax.softmax_cross_entropy(logits, labels).mean()


@eqx.filter_jit
def train_step(model, opt_state, key, images, labels):
  images, labels = jaxmix.random_mix(key, images, labels, num_classes=10)
  grads = eqx.filter_grad(loss_fn)(model, images, labels)
  updates, opt_state = optimizer.update(grads, opt_state)
  return eqx.apply_updates(model, updates), opt_state


for step in range(300):
  rows = np.random.default_rng(step).integers(1500, size=128)
  batch = jax.random.key(step), images[rows], labels[rows]
  model, opt_state = train_step(model, opt_state, *batch)
predicted = jax.vmap(model)(images[1500:].reshape(-1, 64)).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
