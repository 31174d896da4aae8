"""flax.nnx: the model, the optimizer and the keys are objects with state.

The stream of keys is an `nnx.Rngs` of its own, which `nnx.jit` advances at
every call. Save it with the model, and a resumed run draws the same mixes.
"""

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import jaxmix

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
rngs = nnx.Rngs(0, mix=1)
model = nnx.Sequential(
  lambda x: x.reshape(-1, 64),
  nnx.Linear(64, 64, rngs=rngs),
  nnx.relu,
  nnx.Linear(64, 10, rngs=rngs),
)
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, rngs, images, labels):
  images, labels = jaxmix.random_mix(rngs.mix(), images, labels, num_classes=10)

  def loss_fn(model):
    return optax.softmax_cross_entropy(model(images), labels).mean()

  optimizer.update(model, nnx.grad(loss_fn)(model))


for rows in np.random.default_rng(0).integers(1500, size=(300, 128)):
  train_step(model, optimizer, rngs, images[rows], labels[rows])
predicted = model(images[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
