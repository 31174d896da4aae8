"""RandomMix: Liu et al., arXiv 2205.08728, equations (3) and (4)."""

import dataclasses
import functools
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.batch import mix_batch, second_batch
from jaxmix._src.checks import (
  GRANULARITIES,
  check_alpha,
  check_choice,
  check_finite,
  check_key,
  check_saliency,
  check_weights,
  is_concrete,
)
from jaxmix._src.cutmix import draw_cutmix
from jaxmix._src.fmix import draw_fmix
from jaxmix._src.guided.saliency import spectral_residual
from jaxmix._src.guided.saliency_mix import draw_saliency_mix
from jaxmix._src.identity import draw_identity
from jaxmix._src.mix import Mix
from jaxmix._src.mixup import draw_mixup
from jaxmix._src.platform import by_platform
from jaxmix._src.resizemix import RESIZE_METHODS, draw_resizemix
from jaxmix._src.selection import (
  Draw,
  choose,
  pad_to_common_structure,
  select,
)
from jaxmix._src.settings import in_any_setting
from jaxmix._src.spatial_axes import named_saliency, named_shape, spread
from jaxmix._src.start import start_draw

Candidate = str | Draw

_DRAW_BY_MODE: dict[str, Draw] = {
  'identity': draw_identity,
  'mixup': draw_mixup,
  'cutmix': draw_cutmix,
  'resizemix': draw_resizemix,
  'fmix': draw_fmix,
  'saliency_mix': draw_saliency_mix,
}
MODES = tuple(_DRAW_BY_MODE)
_WITH_ALPHA = ('mixup', 'cutmix', 'fmix', 'saliency_mix')
PAPER = ('mixup', 'cutmix', 'resizemix', 'fmix')


@in_any_setting
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
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  saliency: ArrayLike | None = None,
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws a RandomMix: a random pairing and one candidate chosen by weight.

  With one of the named candidates (or one weight above zero) the result equals
  that mode's own draw for the same key, bit for bit, with jax's default random
  numbers.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    candidates: the modes to choose from: `'mixup'`, `'cutmix'`, `'resizemix'`,
      `'fmix'`, `'saliency_mix'` (which needs `saliency`), `'identity'` (no
      mixing), or functions `draw(key, shape, *, granularity, partner) -> Mix`
      such as `functools.partial(jaxmix.draw_cutmix, max_share=0.5)`. They get
      a key of their own, and the partner, which is drawn before.
    weights: one number of 0 or more for each candidate, not all zero; they
      need not add up to 1. Or a mapping by candidate such as `{'mixup': 3,
      'fmix': 1}`, where a candidate that is not named has 0. None: all equal.
      May be a traced array, so that a schedule can change them under `jit`.
    alpha: the parameter of Beta(alpha, alpha): one number, or a mapping by mode
      such as `{'mixup': 0.2}`, where a mode that is not named has 1. ResizeMix
      has no alpha.
    scale: see `jaxmix.draw_resizemix`.
    method: see `jaxmix.draw_resizemix`.
    spectrum: see `jaxmix.draw_fmix`.
    decay_power: see `jaxmix.draw_fmix`.
    max_soft: see `jaxmix.draw_fmix`.
    pairing: how partners are chosen, see `jaxmix.draw_partner`.
    spatial_axes: see `jaxmix.draw_cutmix`.
    granularity: `'batch'`: one mode with one lambda for the whole batch (the
      paper). `'sample'`: a mode, lambda and mask or box for each sample.
    saliency: `[B, *spatial]`, the saliency of each image before mixing, for
      `'saliency_mix'`; its mean over axes that `spatial_axes` leaves out.
    partner: see `jaxmix.draw_cutmix`.

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
  inner = named_shape(shape, spatial_axes)
  # All axes of `inner`, whose layout has been checked.
  axes = {'spatial_axes': tuple(range(1, len(inner) - 1))}
  draws = _draw_functions(
    candidates,
    alpha,
    cutmix=axes,
    resizemix={'scale': scale, 'method': method, **axes},
    fmix={
      **axes,
      'spectrum': spectrum,
      'decay_power': decay_power,
      'max_soft': max_soft,
    },
    saliency_mix={
      'saliency': saliency
      if saliency is None
      else named_saliency(saliency, shape, spatial_axes)
    },
  )
  weights = check_weights(weights, candidates)
  # A weight that is known to be zero is left out of the program.
  known = isinstance(weights, np.ndarray)
  used = np.flatnonzero(weights > 0) if known else np.arange(len(draws))
  start = start_draw(
    key,
    inner,
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last='choice',
  )
  batch, partner = start.batch, start.partner
  draws = [
    functools.partial(
      draws[i], shape=inner, granularity=granularity, partner=partner
    )
    for i in used
  ]
  if len(draws) == 1:
    mode = jnp.full(batch, used[0], jnp.int32)
    drawn = dataclasses.replace(draws[0](key), partner=partner, mode=mode)
    return spread(drawn, shape, spatial_axes)

  choice = choose(start.choice, weights[used])
  mode = jnp.broadcast_to(jnp.asarray(used, jnp.int32)[choice], (batch,))
  branches = pad_to_common_structure(draws, key, inner)
  if granularity == 'batch' and is_concrete(choice):
    # Outside jit, a switch would be compiled at every call.
    drawn = branches[int(choice[0])](key)
  elif granularity == 'batch':
    # On a CPU the draws cost more than a conditional. On an accelerator all of
    # them are a few kernels, and a conditional waits for the host.
    drawn = by_platform(
      choice,
      cpu=lambda choice: jax.lax.switch(choice[0], branches, key),
      default=lambda choice: select(choice, [b(key) for b in branches]),
    )
  else:
    drawn = select(choice, [branch(key) for branch in branches])
  if not known:
    # Traced weights that are invalid give NaN, so that nothing trains on them.
    total = jnp.sum(weights)
    valid = jnp.all(weights >= 0) & (total > 0) & jnp.isfinite(total)
    drawn = dataclasses.replace(drawn, lam=jnp.where(valid, drawn.lam, jnp.nan))
  drawn = dataclasses.replace(drawn, partner=partner, mode=mode)
  return spread(drawn, shape, spatial_axes)


def random_mix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  candidates: Sequence[Candidate] = PAPER,
  weights: Any = None,
  alpha: Any = 1.0,
  scale: tuple[float, float] = (0.1, 0.8),
  method: str = 'nearest',
  spectrum: str = 'isotropic',
  decay_power: float = 3.0,
  max_soft: float = 0.0,
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  saliency: ArrayLike | None = None,
  partner_images: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
  lengths: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
  """RandomMix: each batch is mixed by one of the candidates, chosen by weight.

  Args:
    key: random key; use a new one for every batch, e.g. `fold_in(root, step)`.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`: floating
      point, integers 0 and 1, or bool.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: fraction of each label spread evenly over all classes.
    where: bool `[B]`, the samples whose label counts, for example
      `where=labels != -1`. The other labels may have any value, and have weight
      0 (see `jaxmix.mix_labels`): divide the sum of the losses by the sum of
      the mixed labels. None: all count.
    candidates: see `jaxmix.draw_random_mix`.
    weights: see `jaxmix.draw_random_mix`.
    alpha: see `jaxmix.draw_random_mix`.
    scale: see `jaxmix.draw_resizemix`.
    method: see `jaxmix.draw_resizemix`.
    spectrum: see `jaxmix.draw_fmix`.
    decay_power: see `jaxmix.draw_fmix`.
    max_soft: see `jaxmix.draw_fmix`.
    pairing: see `jaxmix.draw_random_mix`.
    spatial_axes: see `jaxmix.draw_random_mix`.
    granularity: see `jaxmix.draw_random_mix`.
    saliency: see `jaxmix.draw_random_mix`. None: with the candidate
      `'saliency_mix'`, `jaxmix.spectral_residual` of the images. With
      `partner_images`, it is theirs.
    partner_images: a second batch of the shape and dtype of `images`: sample
      `i` is mixed with `partner_images[i]`, and `pairing` is not used. Needs
      `partner_labels`. None: the partners are in `images`.
    partner_labels: the labels of `partner_images`, in the form of `labels`, all
      of which count.
    lengths: int `[B]`, for padded sequences: the number of valid steps on the
      first spatial axis. Labels are mixed by the valid steps, see
      `jaxmix.with_lengths`. None: all steps. Not with `partner_images`.

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
  by_saliency = isinstance(candidates, Sequence) and (
    'saliency_mix' in candidates
  )
  if saliency is None and by_saliency:
    saliency = spectral_residual(
      images if partner_images is None else partner_images
    )
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
    spatial_axes=spatial_axes,
    granularity=granularity,
    saliency=saliency,
    partner=second_batch(images, partner_images),
  )
  result = mix_batch(
    mix,
    images,
    labels,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
    partner_images=partner_images,
    partner_labels=partner_labels,
    lengths=lengths,
  )
  check_finite('images', images)
  if partner_images is not None:
    check_finite('partner_images', partner_images)
  return result


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
      draws.append(_own_draw(candidate))
      continue
    check_choice('candidate', candidate, MODES)
    bound = dict(options.get(candidate, {}))
    if candidate in _WITH_ALPHA:
      bound['alpha'] = alpha
      if by_mode:
        bound['alpha'] = alpha[candidate] if candidate in alpha else 1.0
    if candidate == 'saliency_mix':
      draws.append(_saliency_draw(**bound))
    else:
      draws.append(functools.partial(_DRAW_BY_MODE[candidate], **bound))
  return draws


def _own_draw(draw: Draw) -> Draw:
  """Returns a candidate of one's own, with a key of its own and checks."""
  _check_draw(draw)
  name = getattr(draw, '__name__', repr(draw))

  def checked(key: jax.Array, shape: tuple[int, ...], **options: Any) -> Mix:
    # The numbers of `key` have chosen the partners and the mode.
    mix = draw(jax.random.fold_in(key, 1), shape=shape, **options)
    if not isinstance(mix, Mix):
      raise TypeError(
        f'candidate {name} must return a jaxmix.Mix; got {type(mix).__name__}.'
      )
    if jnp.shape(mix.lam) != shape[:1]:
      raise ValueError(
        f'candidate {name} returned lam of shape {list(jnp.shape(mix.lam))}; '
        f'it must be [{shape[0]}], one for each sample.'
      )
    return dataclasses.replace(mix, lam=jnp.asarray(mix.lam, jnp.float32))

  return checked


def _saliency_draw(*, saliency: ArrayLike | None, alpha: Any) -> Draw:
  """Returns SaliencyMix as a candidate."""
  if saliency is None:
    raise ValueError(
      "saliency=None: the candidate 'saliency_mix' needs the saliency of the "
      'images [batch, *spatial], for example jaxmix.spectral_residual(images).'
    )

  def draw(key: jax.Array, shape: tuple[int, ...], **options: Any) -> Mix:
    known = check_saliency(saliency, shape)
    return draw_saliency_mix(key, known, alpha=alpha, **options)

  return draw


def _check_draw(draw: Draw) -> None:
  """Raises TypeError unless a function can be called as a candidate."""
  try:
    signature = inspect.signature(draw)
  except ValueError:  # of a builtin; it is called and may raise
    return
  try:
    signature.bind(None, shape=(), granularity='batch', partner=None)
  except TypeError as error:
    name = getattr(draw, '__name__', repr(draw))
    raise TypeError(
      f'candidate {name} must be a function draw(key, shape, *, granularity, '
      f'partner) -> Mix; its arguments are {signature}: {error}.'
    ) from None
