"""Keras 3 on JAX: `train_step` mixes the batch, and `fit` does the rest.

For any Keras model: callbacks, metrics and `evaluate` work as before. Labels
are one-hot, because mixed labels are. `iterations` is the number of the step.
"""
# pyright: reportMissingImports=false, reportArgumentType=false

import os

os.environ['KERAS_BACKEND'] = 'jax'  # before keras is imported

import jax
import keras
from sklearn.datasets import load_digits

import jaxmix


class MixedModel(keras.Sequential):
  def train_step(self, state, data):
    step = state[2][self.optimizer.variables.index(self.optimizer.iterations)]
    key = jax.random.fold_in(jax.random.key(0), step)
    return super().train_step(state, jaxmix.random_mix(key, *data))


images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1) / 16
labels = keras.utils.to_categorical(labels)
keras.utils.set_random_seed(0)
layers = keras.layers
model = MixedModel(
  [layers.Flatten(), layers.Dense(64, activation='relu'), layers.Dense(10)]
)
loss = keras.losses.CategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=['accuracy'])
model.fit(images[:1500], labels[:1500], batch_size=125, epochs=25, verbose=0)
_, accuracy = model.evaluate(images[1500:], labels[1500:], verbose=0)
print('test accuracy', accuracy)
