"""Several labels for an image: multi-hot labels and a sigmoid cross entropy.

For attributes and tags, here: even, above four, prime. Elsewhere, `mix_labels`
of multi-hot labels gives the targets of any binary cross entropy.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
traits = np.array([[d % 2 < 1, d > 4, d in (2, 3, 5, 7)] for d in range(10)])
labels = traits[labels]  # bool [B, 3]
images = images.reshape(-1, 8, 8, 1) / 16
net = nn.Sequential([nn.DenseGeneral(64, (1, 2, 3)), nn.relu, nn.Dense(3)])
params, adam = net.init(jax.random.key(0), images[:1]), optax.adam(1e-2)
state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, images, labels):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  mix = jaxmix.draw_random_mix(key, images.shape)

  def loss_fn(params):
    logits = state.apply_fn(params, jaxmix.apply(mix, images))
    return jaxmix.mixed_sigmoid_cross_entropy(logits, labels, mix).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in np.random.default_rng(0).integers(1500, size=(300, 128)):
  state = train_step(state, images[rows], labels[rows])
predicted = state.apply_fn(state.params, images[1500:]) > 0
print('label accuracy', accuracy := np.mean(predicted == labels[1500:]))
