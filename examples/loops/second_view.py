"""Self-supervision: two views of a batch are mixed by one draw, and must agree.

For contrastive and consistency losses, which need no labels. With one draw the
two views show the same mixture, and differ by the augmentation alone.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import jaxmix

images = load_digits(return_X_y=True)[0].reshape(-1, 8, 8, 1) / 16
net = nn.Sequential([nn.DenseGeneral(64, (1, 2, 3)), nn.relu, nn.Dense(32)])
params, adam = net.init(jax.random.key(0), images[:1]), optax.adam(1e-2)
start = state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, images):
  mix_key, noise_key = jax.random.split(jax.random.key(state.step))
  mix = jaxmix.draw_random_mix(mix_key, images.shape)
  noise = 0.3 * jax.random.normal(noise_key, (2, *images.shape))
  views = jax.numpy.concatenate([jaxmix.apply(mix, images + n) for n in noise])

  def loss_fn(params):
    return optax.ntxent(state.apply_fn(params, views), np.arange(256) % 128)

  loss, grads = jax.value_and_grad(loss_fn)(state.params)
  return state.apply_gradients(grads=grads), loss


for epoch in range(20):
  for rows in np.random.default_rng(epoch).permutation(1792).reshape(-1, 128):
    state, _ = train_step(state, images[rows])
before, after = (train_step(s, images[:128])[1] for s in (start, state))
print('loss', before, 'falls to', after)
