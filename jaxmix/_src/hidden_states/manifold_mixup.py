"""Manifold Mixup: Verma et al., ICML 2019."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmix._src.checks import check_whole
from jaxmix._src.hidden_states.hidden_mix import (
  HiddenMix,
  check_layers,
  choose_layer,
)
from jaxmix._src.ratio import last_number, ratio_of
from jaxmix._src.settings import in_any_setting
from jaxmix._src.start import start_draw


@in_any_setting
def draw_manifold_mixup(
  key: jax.Array,
  batch: int,
  *,
  alpha: Any = 2.0,
  layers: Sequence[int] = (0, 1, 2),
  pairing: str = 'permutation',
) -> HiddenMix:
  """Draws a Manifold Mixup: Mixup of the activations of one layer.

  The layer is uniform over `layers`, and lambda ~ Beta(alpha, alpha) is the
  weight of each of its units; both hold for the whole batch. The loss is
  `jaxmix.mixed_cross_entropy`. With `layers=(0,)` it is Mixup.

  Args:
    key: random key.
    batch: number of samples `B`.
    alpha: parameter of Beta(alpha, alpha), above 0; 2 in the official code. A
      traced value that is not above 0 gives `lam` NaN.
    layers: numbers of the layers to draw from. The official code has three: the
      input, and the outputs of the first and second stage of a residual
      network.
    pairing: how partners are chosen, see `jaxmix.draw_partner`.

  Returns:
    A `HiddenMix`, for activations of any shape `[B, ...]`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> mix = draw_manifold_mixup(jax.random.key(0), 4, layers=(0, 2, 3))
  >>> sorted(mix.weights), mix.lam.shape
  ([0, 2, 3], (4,))
  """
  check_whole('batch', batch, 1)
  numbers = check_layers(layers)
  start = start_draw(
    key,
    (batch, 1, 1),
    pairing=pairing,
    granularity='batch',
    partner=None,
    last=last_number(alpha, 'choice'),
  )
  lam = ratio_of(start.ratio, start.angle, alpha)
  return HiddenMix(
    lam=jnp.broadcast_to(lam, (batch,)),
    partner=start.partner,
    layer=choose_layer(start.choice[0], numbers),
    weights={number: lam[0] for number in numbers},
  )
