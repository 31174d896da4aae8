"""Pairing: which sample of the batch each sample is mixed with."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.checks import check_choice, check_key, check_partner
from jaxmix._src.settings import in_any_setting

PAIRINGS = ('permutation', 'roll', 'flip', 'derangement')


@in_any_setting
def draw_partner(
  key: jax.Array, batch: int, *, pairing: str = 'permutation'
) -> jax.Array:
  """Draws the partner of each sample: RandomMix, equation (3).

  Every pairing is a permutation, so each sample is a partner exactly once.

  Args:
    key: random key; `'roll'` and `'flip'` do not use it.
    batch: number of samples `B`.
    pairing: `'permutation'`: uniform over all permutations; on average one
      sample is its own partner (the paper, and the code of Mixup, CutMix, FMix
      and ResizeMix). `'derangement'`: no sample is its own partner if `B >= 2`
      (uniform over the cyclic permutations). `'roll'`: the previous sample
      (torchvision). `'flip'`: the batch reversed (timm); the middle sample of
      an odd batch is its own partner. The last two need a shuffled batch.

  Returns:
    int32 `[B]`: sample `i` is mixed with sample `partner[i]`.

  Raises:
    ValueError: `pairing` is unknown.

  >>> draw_partner(jax.random.key(0), 4, pairing='roll').tolist()
  [3, 0, 1, 2]
  """
  check_key(key)
  return pair(jax.random.bits(key, (batch,), jnp.uint32), pairing=pairing)


def pair(bits: jax.Array, *, pairing: str) -> jax.Array:
  """Returns the partners that random bits uint32 `[B]` give: int32 `[B]`."""
  check_choice('pairing', pairing, PAIRINGS)
  samples = jnp.arange(len(bits), dtype=jnp.int32)
  if pairing == 'roll':
    return jnp.roll(samples, 1)
  if pairing == 'flip':
    return samples[::-1]
  # Equal bits, which are rare, keep their order.
  _, order = jax.lax.sort_key_val(bits, samples)
  if pairing == 'permutation':
    return order
  return samples.at[order].set(jnp.roll(order, -1))


def find_partner(
  bits: jax.Array, *, pairing: str, partner: ArrayLike | None
) -> jax.Array:
  """Returns the partners that are given, or `pair`: int32 `[B]`.

  Raises:
    ValueError, TypeError: invalid partners, or `pairing` is unknown.
  """
  if partner is None:
    return pair(bits, pairing=pairing)
  return check_partner(partner, len(bits))
