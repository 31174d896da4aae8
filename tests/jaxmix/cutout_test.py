import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn

MANY = 100_000


def draw(spatial_shape, length, count=MANY):
  function = drawn.quick(
    lambda key: jaxmix.draw_cutout(
      key, (count, *spatial_shape, 1), length=length
    )
  )
  return np.asarray(function(jax.random.key(0)))


@pytest.mark.parametrize('length', [8, 16, 7, 1, 100])
def test_boxes_are_those_of_the_paper(length):
  # Its law, pixel by pixel: |pixel - centre| within half a side, as its slices
  # have it, [centre - length // 2, centre + length // 2) for even lengths.
  box = draw((32, 32), length)
  centre = np.arange(32)
  start = np.clip(centre - length // 2, 0, 32)
  stop = np.clip(centre - length // 2 + length, 0, 32)
  allowed = set(zip(start.tolist(), stop.tolist(), strict=True))
  for axis in (0, 1):
    found, counts = np.unique(box[:, axis], axis=0, return_counts=True)
    assert set(map(tuple, found.tolist())) == allowed
    for pair, count in zip(found.tolist(), counts, strict=True):
      share = np.mean((start == pair[0]) & (stop == pair[1]))
      # Five standard errors of so many draws.
      assert abs(count / MANY - share) < 5 * (share / MANY) ** 0.5


@pytest.mark.parametrize('spatial_shape', [(21,), (9, 12), (6, 5, 7)])
def test_any_number_of_axes(spatial_shape):
  box = draw(spatial_shape, 4, 200)
  assert box.shape == (200, len(spatial_shape), 2)
  assert (box[..., 0] < box[..., 1]).all(), 'a box is empty'
  assert (box >= 0).all() and (box[..., 1] <= spatial_shape).all()


def test_the_box_is_filled_and_nothing_else_changes():
  rng = np.random.default_rng(1)
  images = rng.integers(1, 256, (20, 9, 12, 2)).astype(np.uint8)
  labels = np.arange(20) % 3
  key = jax.random.key(5)
  found, dense = jaxmix.cutout(
    key, images, labels, num_classes=3, length=4, fill=np.array([0, 7])
  )
  expected = images.copy()
  boxes = np.asarray(jaxmix.draw_cutout(key, images.shape, length=4))
  for image, ((top, bottom), (left, right)) in zip(
    expected, boxes, strict=True
  ):
    image[top:bottom, left:right] = (0, 7)
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(dense, np.eye(3)[labels])


def test_samples_have_boxes_of_their_own():
  assert len(np.unique(draw((32, 32), 8, 64), axis=0)) > 50


def test_what_is_not_finite_is_cut_away():
  images = jnp.full((1, 4, 4, 1), jnp.nan)
  cut = jaxmix.fill_box(images, jnp.array([[[0, 4], [0, 4]]]), fill=1)
  assert (cut == 1).all()


@pytest.mark.parametrize('length', [0, -1, 2.5, True, None])
def test_a_length_that_is_none_is_refused(length):
  with pytest.raises(ValueError, match='length='):
    jaxmix.draw_cutout(jax.random.key(0), (2, 8, 8, 1), length=length)


def test_a_box_of_other_images_is_refused():
  with pytest.raises(ValueError, match=r'box has shape \[2, 2, 2\], not \[1'):
    jaxmix.fill_box(jnp.ones((1, 4, 4, 1)), jnp.zeros((2, 2, 2), int))
