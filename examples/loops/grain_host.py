"""Grain: the host mixes the batches, in the threads that read the data.

For input pipelines that hand finished batches to the accelerator. The mix is
compiled once, for the CPU; grain seeds each batch, so that it can be repeated.
"""

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
random_mix = jax.jit(jaxmix.random_mix, static_argnames='num_classes')


def mix_batch(rows, rng):
  with jax.default_device(jax.local_devices(backend='cpu')[0]):
    key = jax.random.key(rng.integers(2**31))
    mixed = random_mix(key, images[rows], labels[rows], num_classes=10)
  return jax.device_get(mixed)


@jax.jit
@jax.grad
def gradient(weights, images, labels):
  logits = images.reshape(-1, 64) @ weights
  return optax.softmax_cross_entropy(logits, labels).mean()


weights = jnp.zeros((64, 10))
rows = grain.MapDataset.range(1500).seed(0).shuffle().repeat(25).batch(125)
for batch in rows.random_map(mix_batch).to_iter_dataset():
  weights -= 0.5 * gradient(weights, *batch)
predicted = (images[1500:].reshape(-1, 64) @ weights).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
