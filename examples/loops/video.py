"""Video [B, T, H, W, C]: the same box or mask in every frame of a clip.

`spatial_axes=(2, 3)` names height and width: boxes vary over these, not over
time. The clips show digits that move to the left, stay or move to the right.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import jaxmix

digits = load_digits(return_X_y=True)[0].reshape(-1, 8, 8, 1) / 16
clips = [[np.roll(digits, v * t, 2) for t in range(4)] for v in (-1, 0, 1)]
labels = np.random.default_rng(0).integers(3, size=len(digits))
videos = np.stack(clips, 2)[:, range(len(digits)), labels].swapaxes(0, 1)
net = nn.Sequential([nn.DenseGeneral(64, (1, 2, 3, 4)), nn.relu, nn.Dense(3)])
params, adam = net.init(jax.random.key(0), videos[:1]), optax.adam(3e-3)
state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, videos, labels):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  mix = jaxmix.draw_random_mix(key, videos.shape, spatial_axes=(2, 3))

  def loss_fn(params):
    logits = state.apply_fn(params, jaxmix.apply(mix, videos))
    return jaxmix.mixed_cross_entropy(logits, labels, mix).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in np.random.default_rng(0).integers(1500, size=(300, 64)):
  state = train_step(state, videos[rows], labels[rows])
predicted = state.apply_fn(state.params, videos[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
