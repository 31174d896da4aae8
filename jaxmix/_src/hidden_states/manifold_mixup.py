"""Manifold Mixup: Verma et al., ICML 2019."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmix._src.checks import check_key
from jaxmix._src.hidden_states.hidden_mix import HiddenMix, check_layers
from jaxmix._src.pairing import draw_partner
from jaxmix._src.ratio import draw_ratio
from jaxmix._src.start import split_key


def draw_manifold_mixup(
  key: jax.Array,
  batch: int,
  *,
  alpha: Any = 2.0,
  layers: Sequence[int] = (0, 1, 2),
  pairing: str = 'permutation',
) -> HiddenMix:
  """Draws a Manifold Mixup: Mixup of one state of a network.

  The state is uniform over `layers`, lambda ~ Beta(alpha, alpha) the weight of
  each of its units; both hold for the whole batch. Their loss is
  `jaxmix.mixed_cross_entropy`. With `layers=(0,)` it is Mixup.

  Args:
    key: random key.
    batch: number of samples `B`.
    alpha: above 0; 2 in the official code.
    layers: the numbers of the states to draw from. Theirs are three: the input,
      and what leaves the first and the second stage of a residual network.
    pairing: see `jaxmix.draw_partner`.

  Returns:
    A `HiddenMix`, for states of any shape `[B, ...]`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> mix = draw_manifold_mixup(jax.random.key(0), 4, layers=(0, 2, 3))
  >>> sorted(mix.weights), mix.lam.shape
  ([0, 2, 3], (4,))
  """
  check_key(key)
  if type(batch) is not int or batch < 1:
    raise ValueError(f'batch={batch!r} must be a whole number of 1 or more.')
  numbers = check_layers(layers)
  pair_key, layer_key, ratio_key = split_key(key)
  lam = draw_ratio(ratio_key, 1, alpha)
  return HiddenMix(
    lam=jnp.broadcast_to(lam, (batch,)),
    partner=draw_partner(pair_key, batch, pairing=pairing),
    layer=jax.random.choice(layer_key, jnp.asarray(numbers)),
    weights={number: lam[0] for number in numbers},
  )
