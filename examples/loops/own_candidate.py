"""An own candidate: a function that draws a Mix, beside the built-in modes.

For a mode of your own: this one keeps what is left of a random column. Its mask
and its lambda tell `apply`, the labels and the losses all that they need.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
weights = jnp.zeros((64, 10))


def draw_split(key, shape, *, granularity, partner):
  count = shape[0] if granularity == 'sample' else 1
  column = jax.random.randint(key, (count, 1, 1), 0, shape[2] + 1)
  mask = jnp.arange(shape[2]) < column  # [count, 1, width], the own pixels
  lam = jnp.broadcast_to(mask.mean((1, 2)), shape[0])
  return jaxmix.Mix(lam=lam, partner=partner, mask=mask)


@jax.jit
@jax.grad
def gradient(weights, step, images, labels):
  key, candidates = jax.random.key(step), ('mixup', draw_split)
  mix = jaxmix.draw_random_mix(key, images.shape, candidates=candidates)
  logits = jaxmix.apply(mix, images).reshape(-1, 64) @ weights
  return jaxmix.mixed_cross_entropy(logits, labels, mix).mean()


for step in range(300):
  rows = np.random.default_rng(step).integers(1500, size=128)
  weights -= 0.5 * gradient(weights, step, images[rows], labels[rows])
predicted = (images[1500:].reshape(-1, 64) @ weights).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
