"""Tests of boxes: random pixels, and the pixels inside."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmix._src.boxes import draw_pixel, fraction_outside, inside
from tests.jaxmix import drawn, reference


def test_pixels_are_uniform_and_axes_independent():
  spatial_shape, count = (32, 7), 200_000
  pixel = np.asarray(
    drawn.quick(draw_pixel, static_argnums=(1, 2))(
      jax.random.key(0), count, spatial_shape
    )
  )
  assert pixel.dtype == np.int32 and pixel.shape == (count, 2)
  table = np.zeros(spatial_shape)
  np.add.at(table, tuple(pixel.T), 1)  # an index out of range raises here
  for axis in range(2):
    p = reference.p_value(stats.chisquare(table.sum(1 - axis)))
    assert p > 1e-4, f'axis {axis}: centres are not uniform (p={p:.1e})'
  p = reference.p_value(stats.chi2_contingency(table))
  assert p > 1e-4, f'row and column depend on each other (p={p:.1e})'


@pytest.mark.parametrize('spatial_shape', [(11,), (5, 8), (3, 4, 5)])
def test_inside_and_fraction(spatial_shape):
  rng = np.random.default_rng(0)
  corners = rng.integers(
    0, np.array(spatial_shape) + 1, (50, 2, len(spatial_shape))
  )
  box = np.sort(corners, 1).transpose(0, 2, 1).astype(np.int32)
  box[0] = 0  # an empty box
  box[1] = np.stack(
    [np.zeros(len(spatial_shape)), spatial_shape], 1
  )  # the whole image
  want = np.zeros((50, *spatial_shape), bool)
  for i, sides in enumerate(box):
    want[i][tuple(slice(*side) for side in sides)] = True
  got = np.asarray(jax.jit(inside, static_argnums=1)(box, spatial_shape))
  np.testing.assert_array_equal(got, want)
  fraction = np.asarray(
    jax.jit(fraction_outside, static_argnums=1)(box, spatial_shape)
  )
  assert fraction.dtype == np.float32
  np.testing.assert_allclose(
    fraction, 1 - reference.box_fraction(box, spatial_shape), atol=1e-6
  )
  assert fraction[0] == 1, 'an empty box leaves less than everything'
  assert fraction.min() >= 0, (
    f'a full box leaves {fraction[1]}: lam is negative, and so are labels'
  )


def test_lone_pixel():
  pixel = drawn.quick(draw_pixel, static_argnums=(1, 2))
  assert (np.asarray(pixel(jax.random.key(1), 9, (1, 1))) == 0).all()
