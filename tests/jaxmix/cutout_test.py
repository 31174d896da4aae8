"""Tests of Cutout: the boxes, and what is filled."""

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


@pytest.mark.parametrize('length', [16, 7, 100])
def test_boxes_are_those_of_the_paper(length):
  # Per pixel: |pixel - centre| within half a side, as sliced by the official
  # code, [centre - length // 2, centre + length // 2) for even lengths.
  box = draw((32, 32), length)
  centre = np.arange(32)
  start = np.clip(centre - length // 2, 0, 32)
  stop = np.clip(centre - length // 2 + length, 0, 32)
  allowed = set(zip(start.tolist(), stop.tolist(), strict=True))
  for axis in (0, 1):
    pairs, counts = np.unique(box[:, axis], axis=0, return_counts=True)
    assert set(map(tuple, pairs.tolist())) == allowed
    for pair, count in zip(pairs.tolist(), counts, strict=True):
      expected = np.mean((start == pair[0]) & (stop == pair[1]))
      # Five standard errors of so many draws.
      assert abs(count / MANY - expected) < 5 * (expected / MANY) ** 0.5


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

  @jax.jit
  def run(key, images, labels):
    box = jaxmix.draw_cutout(key, images.shape, length=4)
    fill = np.array([0, 7])
    return box, jaxmix.cutout(
      key, images, labels, num_classes=3, length=4, fill=fill
    )

  boxes, (filled, dense) = run(key, images, labels)
  expected = images.copy()
  for image, ((top, bottom), (left, right)) in zip(
    expected, np.asarray(boxes), strict=True
  ):
    image[top:bottom, left:right] = (0, 7)
  np.testing.assert_array_equal(filled, expected)
  assert filled.dtype == np.uint8
  np.testing.assert_array_equal(dense, np.eye(3)[labels])


def test_samples_have_boxes_of_their_own():
  assert len(np.unique(draw((32, 32), 8, 64), axis=0)) > 50


def test_nan_in_a_box_is_overwritten():
  images = np.full((1, 4, 4, 1), np.nan, np.float32)
  fill = jax.jit(jaxmix.fill_box)
  assert (
    np.asarray(fill(images, np.array([[[0, 4], [0, 4]]]), fill=1)) == 1
  ).all()


@pytest.mark.parametrize('length', [0, -1, 2.5, True, None])
def test_an_invalid_length_is_refused(length):
  with pytest.raises(ValueError, match='length='):
    jaxmix.draw_cutout(jax.random.key(0), (2, 8, 8, 1), length=length)


def test_a_box_of_other_images_is_refused():
  with pytest.raises(ValueError, match=r'box.*\[2, 2, 2\]'):
    jaxmix.fill_box(jnp.ones((1, 4, 4, 1)), jnp.zeros((2, 2, 2), int))
