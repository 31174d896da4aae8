"""Tests of the pairing of samples."""

import functools
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

import jaxmix
from tests.jaxmix import drawn, reference

PAIRINGS = ('permutation', 'roll', 'flip', 'derangement')


@functools.cache
def partners(batch, count):
  """Many draws of every pairing."""

  def draw(key):
    return {p: jaxmix.draw_partner(key, batch, pairing=p) for p in PAIRINGS}

  keys = jax.random.split(jax.random.key(batch), count)
  draws = drawn.quick(jax.vmap(draw))(keys)
  return {p: np.asarray(partner) for p, partner in draws.items()}


@pytest.mark.parametrize('batch', [1, 5])
@pytest.mark.parametrize('pairing', PAIRINGS)
def test_everyone_is_a_partner_once(pairing, batch):
  partner = partners(batch, 200)[pairing]
  assert partner.dtype == np.int32
  assert (np.sort(partner, 1) == np.arange(batch)).all()
  alone = (partner == np.arange(batch)).sum(1)
  if pairing == 'derangement' and batch > 1:
    assert (alone == 0).all(), 'a derangement left a sample to itself'
  if pairing == 'flip':
    assert (alone == batch % 2).all()


def test_permutations_are_uniform():
  partner = partners(4, 24_000)['permutation']
  every = {p: i for i, p in enumerate(itertools.permutations(range(4)))}
  count = np.bincount([every[tuple(p)] for p in partner.tolist()], minlength=24)
  p = reference.p_value(stats.chisquare(count))
  assert p > 1e-4, f'some pairings are likelier than others (p={p:.1e})'
  alone = (partner == np.arange(4)).sum(1).mean()
  assert abs(alone - 1) < 5 / np.sqrt(24_000), (
    f'{alone} samples are their own partner on average, not 1'
  )


def test_derangements_are_uniform_over_cycles():
  partner = partners(4, 24_000)['derangement']
  seen, count = np.unique(partner, axis=0, return_counts=True)
  assert len(seen) == 6, 'not exactly the six cycles of four'
  assert reference.p_value(stats.chisquare(count)) > 1e-4


@pytest.mark.parametrize('batch', [1, 2, 5, 8])
def test_fixed_pairings(batch):
  # torchvision's CutMix: batch.roll(1, 0). timm's Mixup: batch.flip(0).
  samples = np.arange(batch)
  for pairing, want in (('roll', np.roll(samples, 1)), ('flip', samples[::-1])):
    got = jaxmix.draw_partner(jax.random.key(0), batch, pairing=pairing)
    np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_modes_pass_the_pairing_on():
  pairings = ('roll', 'derangement')
  for mode in drawn.MODES:
    draw = functools.partial(drawn.DRAW[mode], shape=(5, 2, 2, 1))
    program = drawn.quick(
      lambda key, draw=draw: [draw(key, pairing=p).partner for p in pairings]
    )
    got = program(jax.random.key(5))
    for pairing, partner in zip(pairings, got, strict=True):
      want = jaxmix.draw_partner(jax.random.key(5), 5, pairing=pairing)
      np.testing.assert_array_equal(partner, want, f'{mode}, {pairing}')
