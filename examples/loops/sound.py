"""Sound [B, T, C]: CutMix replaces an interval of a waveform by its partner's.

For waveforms, and spectrograms whose channels are frequencies. The waves are
synthetic (no package here has recordings): sine, square and saw in noise.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState

import jaxmix

rng = np.random.default_rng(0)
labels, hertz = rng.integers(3, size=1800), rng.uniform(4, 12, (1800, 1, 1))
t = (rng.random(hertz.shape) + hertz * np.linspace(0, 1, 256)[:, None]) % 1
shapes = np.sin(2 * np.pi * t), np.sign(t - 0.5), 2 * t - 1
waves = np.choose(labels[:, None, None], shapes) + rng.normal(0, 0.3, t.shape)
net = nn.Sequential([nn.Conv(32, 16), nn.relu, lambda x: x.max(1), nn.Dense(3)])
params, adam = net.init(jax.random.key(0), waves[:1]), optax.adam(1e-2)
state = TrainState.create(apply_fn=net.apply, params=params, tx=adam)


@jax.jit
def train_step(state, waves, labels):
  key = jax.random.fold_in(jax.random.key(1), state.step)
  waves, labels = jaxmix.cutmix(key, waves, labels, num_classes=3)

  def loss_fn(params):
    logits = state.apply_fn(params, waves)
    return optax.softmax_cross_entropy(logits, labels).mean()

  return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))


for rows in rng.integers(1500, size=(300, 64)):
  state = train_step(state, waves[rows], labels[rows])
predicted = state.apply_fn(state.params, waves[1500:]).argmax(1)
print('test accuracy', accuracy := np.mean(predicted == labels[1500:]))
