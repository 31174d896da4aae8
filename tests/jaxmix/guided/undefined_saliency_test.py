"""A NaN stays with its image in the modes that are guided by saliency."""

import functools

import jax
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn

BATCH, BROKEN = 8, 5
rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(BATCH, 16, 16, 3)).astype(np.float32)
MODES = {
  'co_mixup': functools.partial(jaxmix.co_mixup, sweeps=1),
  'puzzle_mix': functools.partial(jaxmix.puzzle_mix, blocks=(4,)),
  'saliency_mix': jaxmix.saliency_mix,
}


@functools.cache
def mode(name):
  return drawn.quick(functools.partial(MODES[name], num_classes=BATCH))


@pytest.mark.parametrize('bad', [np.nan, -np.inf])
@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('name', MODES)
def test_one_image_changes_only_what_it_is_used_in(name, own, bad):
  broken, zero = IMAGES.copy(), IMAGES.copy()
  broken[BROKEN, 3, 4, 1], zero[BROKEN] = bad, 0
  results = []
  for images in (broken, zero):
    saliency = jaxmix.gradient_saliency(images) if own else None
    mixed, labels = mode(name)(
      jax.random.key(1), images, np.arange(BATCH), saliency=saliency
    )
    results.append((np.asarray(mixed), np.asarray(labels)))
  (found, labels), (want, want_labels) = results
  assert np.isfinite(labels).all()
  used = labels[:, BROKEN] > 0
  used |= want_labels[:, BROKEN] > 0
  # Who is mixed with it may use it for the mask only.
  if name == 'puzzle_mix':
    partner = jaxmix.draw_mixup(jax.random.key(1), IMAGES.shape).partner
    used |= (np.asarray(partner) == BROKEN) | (np.arange(BATCH) == BROKEN)
  assert used.sum() <= BATCH // 2, 'nothing is left to compare'
  np.testing.assert_array_equal(found[~used], want[~used])
  np.testing.assert_array_equal(labels[~used], want_labels[~used])
  assert np.isfinite(found[~used]).all()
