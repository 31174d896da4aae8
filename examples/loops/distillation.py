"""Distillation: a teacher's probabilities are mixed like labels.

For a teacher that is asked once, because it is slow or not in JAX. A fast one
may see the mixed images instead: then nothing but the images is mixed.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn import datasets, ensemble

import jaxmix

images, labels = datasets.load_digits(return_X_y=True)
teacher = ensemble.ExtraTreesClassifier(random_state=0)
probs = teacher.fit(images[:750], labels[:750]).predict_proba(images)
images = images.reshape(-1, 8, 8, 1) / 16
net = nn.Sequential([nn.DenseGeneral(64, (1, 2, 3)), nn.relu, nn.Dense(10)])
params, adam = net.init(jax.random.key(0), images[:1]), optax.adam(1e-2)
state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, images, probs):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  images, probs = jaxmix.random_mix(key, images, probs)

  def loss_fn(params):
    logits = state.apply_fn(params, images)
    return optax.softmax_cross_entropy(logits, probs).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in np.random.default_rng(0).integers(1500, size=(300, 128)):
  state = train_step(state, images[rows], probs[rows])
predicted = state.apply_fn(state.params, images[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
