"""flax.linen and optax: each batch is mixed inside the jitted training step.

For any loop around a linen module. The key is the root key folded with the
number of the step, so that a run that is resumed draws the same mixes.
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
  images, labels = jaxmix.random_mix(key, images, labels, num_classes=10)

  def loss_fn(params):
    logits = state.apply_fn(params, images)
    return optax.softmax_cross_entropy(logits, labels).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in np.random.default_rng(0).integers(1500, size=(300, 128)):
  state = train_step(state, images[rows], labels[rows])
predicted = state.apply_fn(state.params, images[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
