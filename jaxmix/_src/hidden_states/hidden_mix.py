"""Mixing of hidden activations: a draw (`HiddenMix`) and `apply_hidden`.

The layers of a network are numbered in the order in which it computes their
activations; layer 0 is its input. The layer that is mixed is drawn, the same
for the whole batch. A network calls `apply_hidden` on every layer that may be
mixed, and one program serves every draw.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.gather import exact_samples, index_samples
from jaxmix._src.mix import blend
from jaxmix._src.platform import branch, by_platform
from jaxmix._src.settings import in_any_setting


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HiddenMix:
  """One random draw for the activations of a network, for `B` samples.

  A pytree of arrays. `jaxmix.mix_labels` and `jaxmix.mixed_cross_entropy`
  accept it like a `Mix`.

  Attributes:
    lam: float32 `[B]` in [0, 1]: the weight of the sample's own label, which is
      the mean weight of its own units in the layer that is mixed.
    partner: int32 `[B]`: sample `i` is mixed with sample `partner[i]`; each
      sample is a partner exactly once.
    layer: int32 `[]`: the number of the layer that is mixed; -1: none.
    weights: for each layer that could have been drawn, the weights of the own
      units: float32 that broadcasts to the activations of one sample.
  """

  lam: jax.Array
  partner: jax.Array
  layer: jax.Array
  weights: dict[int, jax.Array]


@in_any_setting
def apply_hidden(
  mix: HiddenMix, layer: int, activations: ArrayLike
) -> jax.Array:
  """Mixes the activations of a layer, if that layer was drawn.

  The result is `w * own + (1 - w) * partner` in float32, rounded once to the
  dtype of the activations; a unit of weight 1 or 0 is copied. Gradients flow to
  both samples.

  Args:
    mix: a draw for this batch size.
    layer: the number of the layer, static under `jit`.
    activations: `[B, ...]`, floating point.

  Returns:
    The mixed activations, or `activations` unchanged; shape and dtype are the
    same.

  Raises:
    TypeError: `activations` are not floating point.
    ValueError: a batch size or shape that `mix` was not drawn for.

  >>> import jaxmix
  >>> mix = jaxmix.draw_manifold_mixup(jax.random.key(0), 4, layers=(1,))
  >>> activations = jnp.arange(4.0)[:, None]
  >>> bool(jnp.all(apply_hidden(mix, 0, activations) == activations))
  True
  >>> bool(jnp.all(apply_hidden(mix, 1, activations) == activations))
  False
  """
  activations = jnp.asarray(activations)
  if not jnp.issubdtype(activations.dtype, jnp.floating):
    raise TypeError(
      f'activations have dtype {activations.dtype}; allowed: floating point.'
    )
  batch = mix.partner.shape[0]
  if activations.shape[:1] != (batch,):
    raise ValueError(
      f'mix was drawn for a batch of {batch}; got activations of shape '
      f'{list(activations.shape)}.'
    )
  if layer not in mix.weights:
    return activations
  weight = mix.weights[layer]
  try:
    broadcast = jnp.broadcast_shapes(weight.shape, activations.shape[1:])
  except ValueError:
    broadcast = None
  if broadcast != activations.shape[1:]:
    raise ValueError(
      f'mix was drawn for activations of shape {list(weight.shape)} at layer '
      f'{layer}; got {list(activations.shape[1:])}.'
    )

  def mixed(
    take: Callable[..., jax.Array],
    activations: jax.Array,
    partner: jax.Array,
    drawn: jax.Array,
  ) -> jax.Array:
    def blended() -> jax.Array:
      other = take(activations, partner)
      return blend(weight, activations, other).astype(activations.dtype)

    # A branch, so that a layer that is not mixed does not read the partners.
    return branch(drawn == layer, blended, lambda: activations)

  # Around the branch: the gradient of a branch would get the platform as a
  # result of the branch, and not as a constant.
  return by_platform(
    activations,
    mix.partner,
    mix.layer,
    tpu=functools.partial(mixed, exact_samples),
    default=functools.partial(mixed, index_samples),
  )


def choose_layer(uniform: jax.Array, numbers: Sequence[int]) -> jax.Array:
  """Returns one of the layers for a number in [0, 1): int32 `[]`."""
  index = (uniform * len(numbers)).astype(jnp.int32)
  return jnp.asarray(numbers, jnp.int32)[index]


def check_layers(layers: Any) -> tuple[int, ...]:
  """Returns the numbers of layers as a tuple.

  Raises:
    ValueError: they are not one or more different whole numbers of 0 or more.
  """
  numbers = tuple(layers) if isinstance(layers, Iterable) else ()
  whole = all(type(n) is int and n >= 0 for n in numbers)
  if not numbers or not whole or len(set(numbers)) < len(numbers):
    raise ValueError(
      f'layers={layers!r} must be one or more different whole numbers of 0 or '
      'more.'
    )
  return numbers
