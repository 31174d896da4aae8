"""Segmentation: the draw that mixed the images also mixes their class masks.

With `hard=True` each pixel's class is that of the image with the larger weight.
Choose modes with a box or a binary mask: image and classes agree everywhere.
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
masks = np.where(images[..., 0] > 0.3, labels[:, None, None] + 1, 0)
net = nn.Sequential([nn.Conv(32, (7, 7)), nn.relu, nn.Conv(11, (7, 7))])
params, adam = net.init(jax.random.key(0), images[:1]), optax.adam(1e-2)
state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, images, masks):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  mix = jaxmix.draw_random_mix(key, images.shape, candidates=('cutmix', 'fmix'))
  masks = jaxmix.apply(mix, masks[..., None], hard=True)[..., 0]

  def loss_fn(params):
    logits = state.apply_fn(params, jaxmix.apply(mix, images))
    return optax.softmax_cross_entropy_with_integer_labels(logits, masks).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in np.random.default_rng(0).integers(1500, size=(200, 64)):
  state = train_step(state, images[rows], masks[rows])
right = state.apply_fn(state.params, images[1500:]).argmax(-1) == masks[1500:]
print('accuracy where a digit is', accuracy := right[masks[1500:] > 0].mean())
