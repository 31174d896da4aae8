"""A draw for the states of a network (`HiddenMix`), and how it is applied.

The states are numbered in the order in which the network computes them; 0 is
its input. Which of them is mixed is drawn, and is the same for the whole batch:
a network calls `apply_hidden` on all that may be, and one program serves every
draw.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.mix import blend


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HiddenMix:
  """What was drawn for the states of a network, for a batch of `B` samples.

  A pytree of arrays. `jaxmix.mix_labels` and `jaxmix.mixed_cross_entropy` take
  it as they take a `Mix`.

  Attributes:
    lam: float32 `[B]` in [0, 1]: the share of the sample's own label, which is
      the mean weight of its own units in the state that is mixed.
    partner: int32 `[B]`: sample `i` is mixed with sample `partner[i]`; each
      sample is a partner exactly once.
    layer: int32 `[]`: the number of the state that is mixed; -1: none is.
    weights: for the number of each state that could have been drawn, float32
      that broadcasts to one sample's state: the weights of the own units.
  """

  lam: jax.Array
  partner: jax.Array
  layer: jax.Array
  weights: dict[int, jax.Array]


def apply_hidden(mix: HiddenMix, layer: int, states: ArrayLike) -> jax.Array:
  """Mixes state `layer` of a network, if that is the one that was drawn.

  `w * own + (1 - w) * partner` in float32, rounded once to the dtype of the
  states; a unit of weight 1 or 0 is copied. Gradients flow to both samples.

  Args:
    mix: a draw for this batch size.
    layer: the number of the state, known before it is traced.
    states: `[B, ...]`, floating point.

  Returns:
    The mixed states, or `states` as they are; shape and dtype are the same.

  Raises:
    TypeError: `states` are not floating point.
    ValueError: a batch size or shape that `mix` was not drawn for.

  >>> import jaxmix
  >>> mix = jaxmix.draw_manifold_mixup(jax.random.key(0), 4, layers=(1,))
  >>> states = jnp.arange(4.0)[:, None]
  >>> bool(jnp.all(apply_hidden(mix, 0, states) == states))
  True
  >>> bool(jnp.all(apply_hidden(mix, 1, states) == states))
  False
  """
  states = jnp.asarray(states)
  if not jnp.issubdtype(states.dtype, jnp.floating):
    raise TypeError(
      f'states of dtype {states.dtype} cannot be mixed; allowed: floating '
      'point.'
    )
  batch = mix.partner.shape[0]
  if states.shape[:1] != (batch,):
    raise ValueError(
      f'mix was drawn for a batch of {batch}; got states of shape '
      f'{list(states.shape)}.'
    )
  if layer not in mix.weights:
    return states
  weight = mix.weights[layer]
  try:
    fits = jnp.broadcast_shapes(weight.shape, states.shape[1:])
  except ValueError:
    fits = None
  if fits != states.shape[1:]:
    raise ValueError(
      f'mix was drawn for states {layer} of shape {list(weight.shape)}; got '
      f'{list(states.shape[1:])}.'
    )

  def mixed(states: jax.Array) -> jax.Array:
    # A permutation: its transpose adds nothing up.
    other = states.at[mix.partner].get(
      mode='promise_in_bounds', unique_indices=True
    )
    return blend(weight, states, other).astype(states.dtype)

  # A branch, because the partners of a state that stays need not be read.
  return jax.lax.cond(mix.layer == layer, mixed, lambda states: states, states)


def check_layers(layers: Any) -> tuple[int, ...]:
  """Gives the numbers of states as a tuple.

  Raises:
    ValueError: they are not different whole numbers of 0 or more, or none.
  """
  numbers = tuple(layers) if isinstance(layers, Iterable) else ()
  whole = all(type(n) is int and n >= 0 for n in numbers)
  if not numbers or not whole or len(set(numbers)) < len(numbers):
    raise ValueError(
      f'layers={layers!r} must be one or more different whole numbers of 0 or '
      'more.'
    )
  return numbers
