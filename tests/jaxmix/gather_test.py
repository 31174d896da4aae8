"""Tests of gathers: a TPU's products give the bits of a CPU's addresses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix._src import gather
from tests.jaxmix import drawn

SHAPE = (5, 6, 9, 2)
rng = np.random.default_rng(0)
SAMPLES = rng.integers(0, 5, 7).astype(np.int32)
PARTNER = rng.permutation(5).astype(np.int32)
SOURCE = tuple(rng.integers(0, n, (5, n)).astype(np.int32) for n in (6, 9))
ORDER = np.stack([rng.permutation(9) for _ in range(5)]).astype(np.int32)
OWNER = rng.integers(0, 5, (5, 3, 3)).astype(np.int32)
GATHERS = {
  'samples': (
    gather.product_of_samples,
    gather.index_samples,
    gather.take_samples,
    (SAMPLES,),
  ),
  'pixels': (
    gather.product_of_pixels,
    gather.index_pixels,
    gather.take_pixels,
    (PARTNER, SOURCE),
  ),
  'moved blocks': (
    gather.product_of_moved_blocks,
    gather.index_moved_blocks,
    gather.move_blocks,
    (ORDER.reshape(5, 3, 3),),
  ),
  'taken blocks': (
    gather.product_of_taken_blocks,
    gather.index_taken_blocks,
    gather.take_blocks,
    (OWNER,),
  ),
}
DTYPES = ['uint8', 'int8', 'uint16', 'int32', 'bool']
DTYPES += ['float16', 'bfloat16', 'float32']


def some_values(dtype):
  """Random bits: for floats with NaN, infinities, -0.0 and denormals."""
  dtype = jnp.dtype(dtype)
  if dtype.kind == 'b':
    return rng.random(SHAPE) < 0.5
  size = dtype.itemsize * np.prod(SHAPE)
  values = rng.integers(0, 256, size).astype(np.uint8).view(dtype)
  values = values.reshape(SHAPE).copy()
  if jnp.issubdtype(dtype, jnp.floating):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, tiny, -tiny], dtype)
    values[:, 2, :6, 0] = special
  return values


def bits(values):
  return np.asarray(values).view(np.uint8)


def by_definition(name, images):
  """In numpy, pixel by pixel; for the samples in one step."""
  if name == 'samples':
    return images[SAMPLES]
  result = np.empty_like(images)
  for b, i, j in np.ndindex(SHAPE[:3]):
    source = (b, i, j)
    row, column = i // 2, j // 3
    if name == 'pixels':
      source = PARTNER[b], SOURCE[0][b, i], SOURCE[1][b, j]
    elif name == 'taken blocks':
      source = OWNER[b, row, column], i, j
    else:
      top, left = divmod(ORDER[b, 3 * row + column], 3)
      source = b, 2 * top + i % 2, 3 * left + j % 3
    result[b, i, j] = images[source]
  return result


@functools.cache
def programs(name):
  product, index, take, indices = GATHERS[name]

  @drawn.quick
  def run(all_values):
    return [
      (
        gather._exact(product, x, *indices),
        index(x, *indices),
        take(x, *indices),
      )
      for x in all_values
    ]

  values = [some_values(dtype) for dtype in DTYPES]
  return values, run(values)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', GATHERS)
def test_every_way_gives_the_same_bits(name, dtype):
  values, results = programs(name)
  which = DTYPES.index(dtype)
  want = by_definition(name, values[which])
  for found in results[which]:
    assert found.dtype == want.dtype and found.shape == want.shape
    np.testing.assert_array_equal(bits(found), bits(want))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
@pytest.mark.parametrize('name', GATHERS)
def test_gradients_are_equal(name, dtype):
  product, index, _, indices = GATHERS[name]
  images = jnp.asarray(rng.normal(size=SHAPE), dtype)
  pull = rng.integers(-8, 8, index(images, *indices).shape)

  @drawn.quick
  def both(images, pull):
    exact = functools.partial(gather._exact, product)
    results = []
    for take in (exact, index):
      _, back = jax.vjp(lambda x, take=take: take(x, *indices), images)
      _, ahead = jax.jvp(
        lambda x, take=take: take(x, *indices), (images,), (images,)
      )
      results.append((back(pull)[0], ahead))
    return results

  # Sums of small integers are exact in both dtypes.
  (found, ahead), (want, want_ahead) = both(images, jnp.asarray(pull, dtype))
  np.testing.assert_array_equal(
    np.asarray(found, np.float32), np.asarray(want, np.float32)
  )
  np.testing.assert_array_equal(
    np.asarray(ahead, np.float32), np.asarray(want_ahead, np.float32)
  )
