"""Labels to ignore: only every fourth image has one, the others have -1.

For data that are labelled in part. A label that is ignored has weight 0, as the
sample's own and as its partner's; the mean is over the weights that are left.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
some_labels = np.where(np.arange(1797) % 4 == 0, labels, -1)
weights = jnp.zeros((64, 10))


@jax.jit
@jax.grad
def gradient(weights, step, images, labels):
  known = labels != -1
  mix = jaxmix.draw_random_mix(jax.random.key(step), images.shape)
  logits = jaxmix.apply(mix, images).reshape(-1, 64) @ weights
  loss = jaxmix.mixed_cross_entropy(logits, labels, mix, where=known)
  left = mix.lam * known + (1 - mix.lam) * known[mix.partner]
  return loss.sum() / left.sum()


for step in range(300):
  rows = np.random.default_rng(step).integers(1500, size=128)
  weights -= 0.5 * gradient(weights, step, images[rows], some_labels[rows])
predicted = (images[1500:].reshape(-1, 64) @ weights).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
