"""Metric losses of text features against image features.

Every loss is a scalar, the mean over the examples that `where` selects. `d` is
the squared Euclidean distance, a sum over the features. The losses therefore
depend on the scale of the features, and a radius such as `eta` has the unit of
a squared feature. Features may have any floating dtype; distances and losses
are float32, or float64 for float64 features.

Negatives come from `jaxretrieval.mining`. They are passed as features rather
than read from a distance matrix: `|x|^2 + |y|^2 - 2xy` cancels for near points,
and the ratio of the paper raises that error to the fourth power.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def squared_distance(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the squared Euclidean distance of each row of `x` to that of `y`.

  Args:
    x: features `[B, D]`.
    y: features `[B, D]`.

  Returns:
    Non-negative distances `[B]`.

  Examples:
    >>> import jax.numpy as jnp
    >>> squared_distance(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]))
    Array([25.], dtype=float32)
  """
  return jnp.sum(jnp.square(_promote(x) - _promote(y)), axis=-1)


def m3l(
  text: jax.Array,
  image: jax.Array,
  neg_image: jax.Array,
  neg_text: jax.Array,
  *,
  where: jax.Array | None = None,
  rho: float | jax.Array = 4,
  alpha1: float | jax.Array = 0.5,
  alpha2: float | jax.Array = 1.0,
  objective: str = 'ratio',
  eps: float | jax.Array = 1e-6,
) -> jax.Array:
  """Returns the multi-modal metric loss, Aggarwal & Kale 2020, equation 1.

  With `r(x) = d(text, image) / d(text, x)`, the loss of an example is
  `alpha1 * r(neg_image)**rho + alpha2 * r(neg_text)**rho`, or its logarithm.
  A common factor of all features does not change the loss.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    neg_image: an image of another anchor `[B, D]`.
    neg_text: the caption of `neg_image` `[B, D]`; it receives gradients.
    where: bool `[B]`, the examples in the mean; None selects all. Examples
      without a negative must be excluded.
    rho: exponent, above 0.
    alpha1: non-negative weight of the negative image.
    alpha2: non-negative weight of the negative text.
    objective: `'ratio'`, the loss as printed, or `'log'`, the mean of the
      logarithms. Both have the same minimum per example, but with `'log'` a
      gradient does not grow with the fourth power of its ratio.
    eps: added to all distances, in units of the mean squared norm of `image`.
      It keeps values finite at distance 0. Exclude examples whose negative
      text is the anchor's own caption: each of them would outweigh all others.

  Returns:
    A scalar; 0 if `where` selects no example.

  Raises:
    ValueError: an option is out of range, or shapes do not match.

  Examples:
    >>> import jax.numpy as jnp
    >>> text, image = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])
    >>> far = jnp.array([[1.0, 2.0]])
    >>> round(float(m3l(text, image, far, far, rho=1)), 3)  # 1.5 * 1/4
    0.375
  """
  if objective not in ('ratio', 'log'):
    raise ValueError(f"objective={objective!r} must be 'ratio' or 'log'")
  _check_positive('rho', rho)
  _check_positive('eps', eps)
  _check_positive('alpha1', alpha1, or_zero=True)
  _check_positive('alpha2', alpha2, or_zero=True)
  total = alpha1 + alpha2
  if not isinstance(total, jax.Array) and total == 0:
    raise ValueError(
      f'alpha1={alpha1} and alpha2={alpha2}: one must be above 0'
    )
  text, image, neg_image, neg_text = _mask_examples(
    where, text, image, neg_image, neg_text
  )
  unit = _masked_mean(jnp.sum(jnp.square(image), axis=-1), where)
  unit = jax.lax.stop_gradient(unit)
  # If all images are zero, any positive number keeps the ratios finite.
  offset = eps * jnp.where(unit > 0, unit, 1)
  positive = squared_distance(text, image) + offset
  to_image = squared_distance(text, neg_image) + offset
  to_text = squared_distance(text, neg_text) + offset
  if objective == 'log':
    values = jnp.logaddexp(
      _log(alpha1) + rho * jnp.log(positive / to_image),
      _log(alpha2) + rho * jnp.log(positive / to_text),
    )
  else:
    values = alpha1 * (positive / to_image) ** rho
    values += alpha2 * (positive / to_text) ** rho
  return _masked_mean(values, where)


def patr(
  text: jax.Array,
  image: jax.Array,
  neg_image: jax.Array,
  *,
  where: jax.Array | None = None,
  eta: float | jax.Array = 1100.0,
) -> jax.Array:
  """Returns the positive-aware triplet ranking loss, same paper, equation 2.

  The loss of an example is
  `d(text, image) + max(0, eta - d(text, neg_image))`.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    neg_image: an image of another anchor `[B, D]`.
    where: bool `[B]`, the examples in the mean; None selects all.
    eta: squared radius within which negatives are pushed away. The paper's
      1100 is for unscaled ResNet-152 features, about 1.3 times their mean
      squared norm; features divided by `s` need `eta / s**2`.

  Returns:
    A scalar; 0 if `where` selects no example.

  Raises:
    ValueError: an option is out of range, or shapes do not match.

  Examples:
    >>> import jax.numpy as jnp
    >>> text, image = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])
    >>> float(patr(text, image, jnp.array([[1.0, 2.0]]), eta=10.0))
    7.0
  """
  _check_positive('eta', eta)
  text, image, neg_image = _mask_examples(where, text, image, neg_image)
  positive = squared_distance(text, image)
  return _masked_mean(
    positive + jax.nn.relu(eta - squared_distance(text, neg_image)), where
  )


def triplet(
  text: jax.Array,
  image: jax.Array,
  neg_image: jax.Array,
  *,
  where: jax.Array | None = None,
  margin: float | jax.Array = 0.2,
) -> jax.Array:
  """Returns the triplet loss on squared distances, Schroff et al. 2015, eq. 2.

  The loss of an example is
  `max(0, margin + d(text, image) - d(text, neg_image))`. Unlike `patr`, an
  example whose negative is far enough has no gradient.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    neg_image: an image of another anchor `[B, D]`.
    where: bool `[B]`, the examples in the mean; None selects all.
    margin: a squared distance, above 0.

  Returns:
    A scalar; 0 if `where` selects no example.

  Raises:
    ValueError: an option is out of range, or shapes do not match.

  Examples:
    >>> import jax.numpy as jnp
    >>> text, image = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])
    >>> float(triplet(text, image, jnp.array([[1.0, 2.0]]), margin=5.0))
    2.0
  """
  _check_positive('margin', margin)
  text, image, neg_image = _mask_examples(where, text, image, neg_image)
  positive = squared_distance(text, image)
  return _masked_mean(
    jax.nn.relu(margin + positive - squared_distance(text, neg_image)), where
  )


def info_nce(
  text: jax.Array,
  image: jax.Array,
  *,
  same: jax.Array | None = None,
  temperature: float | jax.Array = 0.1,
  symmetric: bool = True,
) -> jax.Array:
  """Returns the contrastive loss over the batch, with similarity `-d`.

  It is the cross entropy of each text over the images of the batch (van den
  Oord et al. 2018, equation 4), or the mean of it and of that of each image
  over the texts (Radford et al. 2021, figure 3, there with the cosine). It uses
  all pairs and builds the matrix `[B, B]`.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    same: bool `[B, B]`, off-diagonal pairs that belong together, such as two
      captions of one image: they count neither as positive nor as negative.
      The diagonal is ignored.
    temperature: a squared distance, above 0.
    symmetric: whether to average both directions, text to image and back.

  Returns:
    A scalar.

  Raises:
    ValueError: an option is out of range, or shapes do not match.

  Examples:
    >>> import jax.numpy as jnp
    >>> far_apart = jnp.array([[0.0, 9.0], [9.0, 0.0]])
    >>> float(info_nce(far_apart, far_apart))
    0.0
  """
  _check_positive('temperature', temperature)
  text, image = _mask_examples(None, text, image)
  # A shift does not change distances. Rectified features consist mostly of
  # their mean; without it the Gram form rounds about twenty times less.
  centre = jax.lax.stop_gradient(jnp.mean(image, axis=0))
  x, y = text - centre, image - centre
  logits = 2 * jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
  logits -= jnp.sum(jnp.square(x), axis=-1)[:, None]
  logits -= jnp.sum(jnp.square(y), axis=-1)[None, :]
  # The diagonal matters most, and there the Gram form cancels: compute it
  # directly.
  own = jnp.eye(len(text), dtype=bool)
  logits = jnp.where(own, -squared_distance(text, image)[:, None], logits)
  logits = logits / temperature
  if same is not None:
    logits = jnp.where(same & ~own, -jnp.inf, logits)
  positive = jnp.diagonal(logits)
  to_images = jax.nn.logsumexp(logits, axis=1) - positive
  if not symmetric:
    return jnp.mean(to_images)
  to_texts = jax.nn.logsumexp(logits, axis=0) - positive
  return jnp.mean(to_images + to_texts) / 2


def _mask_examples(
  where: jax.Array | None, *features: jax.Array
) -> list[jax.Array]:
  """Checks shapes and returns float32 features, zero where `where` is False.

  Masking the loss alone is not enough: the gradient of a masked example would
  be 0 times its derivative, and NaN if the example is not finite or overflows.
  """
  features = tuple(_promote(x) for x in features)
  shapes = [x.shape for x in features]
  if len(set(shapes)) > 1 or len(shapes[0]) != 2:
    raise ValueError(f'all features must have one shape [B, D], not {shapes}')
  if where is None:
    return list(features)
  if where.shape != shapes[0][:1]:
    raise ValueError(
      f'where has shape {where.shape}; it must be {shapes[0][:1]}'
    )
  return [jnp.where(where[:, None], x, 0) for x in features]


def _masked_mean(values: jax.Array, where: jax.Array | None) -> jax.Array:
  if where is None:
    return jnp.mean(values)
  total = jnp.sum(jnp.where(where, values, 0))
  return total / jnp.maximum(jnp.sum(where), 1)


def _check_positive(name: str, value: Any, *, or_zero: bool = False) -> None:
  """Raises unless `value` is an array, or finite and above 0."""
  if isinstance(value, jax.Array | np.ndarray):
    return
  if not isinstance(value, int | float | np.number):
    raise TypeError(f'{name}={value!r} must be a number')
  if not math.isfinite(value) or value < 0 or (value == 0 and not or_zero):
    allowed = '0 or more' if or_zero else 'above 0'
    raise ValueError(f'{name}={value} must be {allowed} and finite')


def _log(weight: Any) -> Any:
  if isinstance(weight, jax.Array):
    return jnp.log(weight)
  return math.log(weight) if weight else -math.inf


def _promote(x: jax.Array) -> jax.Array:
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
