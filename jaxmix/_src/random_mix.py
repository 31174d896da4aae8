"""RandomMix: Liu et al., arXiv 2205.08728, equations (3) and (4)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.checks import (
  GRANULARITIES,
  check_alpha,
  check_choice,
  check_finite,
  check_key,
  check_shape,
  check_weights,
  is_concrete,
)
from jaxmix._src.cutmix import draw_cutmix
from jaxmix._src.fmix import draw_fmix
from jaxmix._src.identity import draw_identity
from jaxmix._src.labels import mix_labels
from jaxmix._src.mix import Mix, apply
from jaxmix._src.mixup import draw_mixup
from jaxmix._src.pairing import draw_partner
from jaxmix._src.resizemix import METHODS, draw_resizemix
from jaxmix._src.selection import Draw, alike, choose, choose_rows
from jaxmix._src.start import split_key

Candidate = str | Draw

MODES = ('identity', 'mixup', 'cutmix', 'resizemix', 'fmix')
_WITH_ALPHA = ('mixup', 'cutmix', 'fmix')
PAPER = ('mixup', 'cutmix', 'resizemix', 'fmix')


def draw_random_mix(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  candidates: Sequence[Candidate] = PAPER,
  weights: Any = None,
  alpha: Any = 1.0,
  scale: tuple[float, float] = (0.1, 0.8),
  method: str = 'nearest',
  spectrum: str = 'isotropic',
  decay_power: float = 3.0,
  max_soft: float = 0.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> Mix:
  """Draws a RandomMix: a random pairing, and one candidate chosen by weight.

  With one candidate (or one weight above zero) it is that mode's own draw for
  the same key, bit for bit.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    candidates: names out of `'mixup'`, `'cutmix'`, `'resizemix'`, `'fmix'` and
      `'identity'` (no mixing), or functions
      `draw(key, shape, *, granularity) -> Mix` of your own; the partner is
      that of the pairing, whatever such a function says.
    weights: one number of 0 or more for each candidate, not all zero; they
      need not add up to 1. None: all equal. May be a traced array, so that a
      schedule can change them under `jit`.
    alpha: the parameter of Beta(alpha, alpha), one number or a mapping by mode
      such as `{'mixup': 0.2}`; modes it does not name have 1. ResizeMix has
      none.
    scale: ResizeMix: the range of the side's ratio.
    method: ResizeMix: `'nearest'`, `'linear'` or `'cubic'`.
    spectrum: FMix: `'isotropic'` or `'official'`.
    decay_power: FMix: the smoothness of the masks.
    max_soft: FMix: the softness of their border, in [0, 0.5].
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'`: one mode with one lambda for the whole batch (the
      paper). `'sample'`: every sample has a mode, lambda and mask or box of its
      own.

  Returns:
    A `Mix`; its `mode` is an index into `candidates`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> mix = draw_random_mix(jax.random.key(0), (8, 32, 32, 3),
  ...                       weights=(3, 1, 1, 1))
  >>> mix.mode.shape
  (8,)
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  check_choice('method', method, METHODS)
  batch, _ = check_shape(shape)
  draws = _draw_functions(
    candidates,
    alpha,
    resizemix={'scale': scale, 'method': method},
    fmix={
      'spectrum': spectrum,
      'decay_power': decay_power,
      'max_soft': max_soft,
    },
  )
  chances = check_weights(
    np.ones(len(draws)) if weights is None else weights, len(draws)
  )
  used = np.arange(len(draws))
  if isinstance(chances, np.ndarray):
    used = np.flatnonzero(chances > 0)
  draws = [
    functools.partial(draws[i], shape=tuple(shape), granularity=granularity)
    for i in used
  ]
  pair_key, choice_key, _ = split_key(key)
  partner = draw_partner(pair_key, batch, pairing=pairing)
  if len(draws) == 1:
    mode = jnp.full(batch, used[0], jnp.int32)
    return dataclasses.replace(draws[0](key), partner=partner, mode=mode)

  count = batch if granularity == 'sample' else 1
  choice = choose(choice_key, count, chances[used])
  mode = jnp.broadcast_to(jnp.asarray(used, jnp.int32)[choice], (batch,))
  branches = alike(draws, key, tuple(shape))
  if granularity == 'batch' and is_concrete(choice):
    drawn = branches[int(choice[0])](key)  # a switch would compile every time
  elif granularity == 'batch':
    drawn = jax.lax.switch(choice[0], branches, key)
  else:
    drawn = choose_rows(choice, [branch(key) for branch in branches])
  if not isinstance(chances, np.ndarray):
    # Traced weights that cannot be drawn from: nothing may train on it.
    total = jnp.sum(chances)
    fit = jnp.all(chances >= 0) & (total > 0) & jnp.isfinite(total)
    drawn = dataclasses.replace(drawn, lam=jnp.where(fit, drawn.lam, jnp.nan))
  return dataclasses.replace(drawn, partner=partner, mode=mode)


def random_mix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  candidates: Sequence[Candidate] = PAPER,
  weights: Any = None,
  alpha: Any = 1.0,
  scale: tuple[float, float] = (0.1, 0.8),
  method: str = 'nearest',
  spectrum: str = 'isotropic',
  decay_power: float = 3.0,
  max_soft: float = 0.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> tuple[jax.Array, jax.Array]:
  """RandomMix: each batch is mixed by one of the candidates, by weight.

  Args:
    key: random key; use another for every batch, e.g. `fold_in(root, step)`.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: `K`, for integer labels.
    candidates: modes to choose from, see `jaxmix.draw_random_mix`.
    weights: one for each candidate; None: all equal.
    alpha: of Beta(alpha, alpha), a number or a mapping by mode.
    scale: ResizeMix: the range of the side's ratio.
    method: ResizeMix: `'nearest'`, `'linear'` or `'cubic'`.
    spectrum: FMix: `'isotropic'` or `'official'`.
    decay_power: FMix: the smoothness of the masks.
    max_soft: FMix: the softness of their border.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'` (the paper) or `'sample'`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type, or,
      outside `jit`, a pixel is not finite. (`jaxmix.apply` takes any.)

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> _, mixed = random_mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  mix = draw_random_mix(
    key,
    jnp.shape(images),
    candidates=candidates,
    weights=weights,
    alpha=alpha,
    scale=scale,
    method=method,
    spectrum=spectrum,
    decay_power=decay_power,
    max_soft=max_soft,
    pairing=pairing,
    granularity=granularity,
  )
  mixed = apply(mix, images)
  check_finite('images', images)
  return mixed, mix_labels(mix, labels, num_classes=num_classes)


def _draw_functions(
  candidates: Sequence[Candidate],
  alpha: Any,
  **options: dict[str, Any],
) -> list[Draw]:
  """The draw function of each candidate, with its options bound."""
  listed = isinstance(candidates, Sequence) and not isinstance(candidates, str)
  if not listed or not candidates:
    raise ValueError(
      f'candidates={candidates!r} must be a sequence of one or more modes.'
    )
  named = {
    'identity': draw_identity,
    'mixup': draw_mixup,
    'cutmix': draw_cutmix,
    'resizemix': draw_resizemix,
    'fmix': draw_fmix,
  }
  by_mode = hasattr(alpha, 'keys')
  if by_mode:
    for mode in alpha.keys():
      check_choice('alpha mode', mode, _WITH_ALPHA)
      check_alpha(alpha[mode], f'alpha[{mode!r}]')
  else:
    check_alpha(alpha)
  draws = []
  for candidate in candidates:
    if callable(candidate):
      draws.append(candidate)
      continue
    check_choice('candidate', candidate, MODES)
    bound = dict(options.get(candidate, {}))
    if candidate in _WITH_ALPHA:
      given = (candidate in alpha) if by_mode else True
      value = (alpha[candidate] if by_mode else alpha) if given else 1.0
      bound['alpha'] = value
    draws.append(functools.partial(named[candidate], **bound))
  return draws
