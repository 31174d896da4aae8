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
from jaxmix._src.resizemix import RESIZE_METHODS, draw_resizemix
from jaxmix._src.selection import (
  Draw,
  choose,
  pad_to_common_structure,
  select_per_sample,
)
from jaxmix._src.start import split_key

Candidate = str | Draw

_DRAW_BY_MODE: dict[str, Draw] = {
  'identity': draw_identity,
  'mixup': draw_mixup,
  'cutmix': draw_cutmix,
  'resizemix': draw_resizemix,
  'fmix': draw_fmix,
}
MODES = tuple(_DRAW_BY_MODE)
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
  """Draws a RandomMix: a random pairing and one candidate chosen by weight.

  With one candidate (or one weight above zero) the result equals that mode's
  own draw for the same key, bit for bit.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    candidates: the modes to choose from: `'mixup'`, `'cutmix'`, `'resizemix'`,
      `'fmix'`, `'identity'` (no mixing), or functions
      `draw(key, shape, *, granularity) -> Mix`. The partner that such a
      function returns is replaced by that of `pairing`.
    weights: one number of 0 or more for each candidate, not all zero; they
      need not add up to 1. None: all equal. May be a traced array, so that a
      schedule can change them under `jit`.
    alpha: the parameter of Beta(alpha, alpha): one number, or a mapping by mode
      such as `{'mixup': 0.2}`, where a mode that is not named has 1. ResizeMix
      has no alpha.
    scale: see `jaxmix.draw_resizemix`.
    method: see `jaxmix.draw_resizemix`.
    spectrum: see `jaxmix.draw_fmix`.
    decay_power: see `jaxmix.draw_fmix`.
    max_soft: see `jaxmix.draw_fmix`.
    pairing: how partners are chosen, see `jaxmix.draw_partner`.
    granularity: `'batch'`: one mode with one lambda for the whole batch (the
      paper). `'sample'`: a mode, lambda and mask or box for each sample.

  Returns:
    A `Mix`; its `mode` is an index into `candidates`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw = jax.jit(draw_random_mix, static_argnames=('shape', 'weights'))
  >>> mix = draw(jax.random.key(0), (8, 32, 32, 3), weights=(3, 1, 1, 1))
  >>> mix.mode.shape
  (8,)
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  check_choice('method', method, RESIZE_METHODS)
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
  weights = check_weights(weights, len(draws))
  # A weight that is known to be zero is left out of the program.
  known = isinstance(weights, np.ndarray)
  used = np.flatnonzero(weights > 0) if known else np.arange(len(draws))
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
  choice = choose(choice_key, count, weights[used])
  mode = jnp.broadcast_to(jnp.asarray(used, jnp.int32)[choice], (batch,))
  branches = pad_to_common_structure(draws, key, tuple(shape))
  if granularity == 'batch' and is_concrete(choice):
    # Outside jit, a switch would be compiled at every call.
    drawn = branches[int(choice[0])](key)
  elif granularity == 'batch':
    drawn = jax.lax.switch(choice[0], branches, key)
  else:
    drawn = select_per_sample(choice, [branch(key) for branch in branches])
  if not known:
    # Traced weights that are invalid give NaN, so that nothing trains on them.
    total = jnp.sum(weights)
    valid = jnp.all(weights >= 0) & (total > 0) & jnp.isfinite(total)
    drawn = dataclasses.replace(drawn, lam=jnp.where(valid, drawn.lam, jnp.nan))
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
  """RandomMix: each batch is mixed by one of the candidates, chosen by weight.

  Args:
    key: random key; use a new one for every batch, e.g. `fold_in(root, step)`.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    candidates: see `jaxmix.draw_random_mix`.
    weights: see `jaxmix.draw_random_mix`.
    alpha: see `jaxmix.draw_random_mix`.
    scale: see `jaxmix.draw_resizemix`.
    method: see `jaxmix.draw_resizemix`.
    spectrum: see `jaxmix.draw_fmix`.
    decay_power: see `jaxmix.draw_fmix`.
    max_soft: see `jaxmix.draw_fmix`.
    pairing: see `jaxmix.draw_random_mix`.
    granularity: see `jaxmix.draw_random_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type, or,
      outside `jit`, a pixel is not finite. (`jaxmix.apply` accepts any pixel.)

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(random_mix, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
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
  """Returns the draw function of each candidate, with its options bound."""
  is_list = isinstance(candidates, Sequence) and not isinstance(candidates, str)
  if not is_list or not candidates:
    raise ValueError(
      f'candidates={candidates!r} must be a sequence of one or more modes.'
    )
  by_mode = hasattr(alpha, 'keys')
  if by_mode:
    for mode in alpha.keys():
      check_choice('alpha: mode', mode, _WITH_ALPHA)
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
      bound['alpha'] = alpha
      if by_mode:
        bound['alpha'] = alpha[candidate] if candidate in alpha else 1.0
    draws.append(functools.partial(_DRAW_BY_MODE[candidate], **bound))
  return draws
