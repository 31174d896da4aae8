"""The default mesh of jax.make_mesh: a batch sharded over all devices.

For plain jit: the batch is mixed as on one device, with partners on any other.
To see it: JAX_NUM_CPU_DEVICES=4 python -m examples.loops.explicit_mesh
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import P
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
jax.set_mesh(jax.make_mesh((jax.device_count(),), ('data',)))
weights = jnp.zeros((64, 10))


@jax.jit
@jax.grad
def gradient(weights, key, images, labels):
  images, labels = jaxmix.random_mix(key, images, labels, num_classes=10)
  logits = images.reshape(-1, 64) @ weights
  return optax.softmax_cross_entropy(logits, labels).mean()


for step in range(300):
  rows = np.random.default_rng(step).integers(1500, size=128)
  batch = jax.device_put((images[rows], labels[rows]), P('data'))
  weights -= 0.5 * gradient(weights, jax.random.key(step), *batch)
predicted = (images[1500:].reshape(-1, 64) @ weights).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
