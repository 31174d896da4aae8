"""Losses of texts against images in one space of squared distances.

Every loss is a scalar: the mean over the rows that count. `d` is the squared
Euclidean distance, a sum over the features; so the losses see the scale of the
features, and a radius such as `eta` is in their units squared. Features of any
float dtype are taken; distances and losses are float32 (float64 stays so).

Negatives are what `jaxretrieval.mining` finds. They are given as rows, not
taken from a matrix of distances: `|x|^2 + |y|^2 - 2xy` cancels for near points,
and the ratio of the paper raises that error to the fourth power.
"""

import math

import jax
import jax.numpy as jnp


def squared_distance(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the squared Euclidean distance of each row of `x` to that of `y`.

  Args:
    x: features `[B, D]`.
    y: features `[B, D]`.

  Returns:
    Distances `[B]`, 0 or more.

  Examples:
    >>> import jax.numpy as jnp
    >>> squared_distance(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]))
    Array([25.], dtype=float32)
  """
  return jnp.sum(jnp.square(_wide(x) - _wide(y)), axis=-1)


def m3l(
  text: jax.Array,
  image: jax.Array,
  neg_image: jax.Array,
  neg_text: jax.Array,
  *,
  where: jax.Array | None = None,
  rho: float = 4,
  alpha1: float = 0.5,
  alpha2: float = 1.0,
  objective: str = 'ratio',
  eps: float = 1e-6,
) -> jax.Array:
  """The multi-modal metric loss, Aggarwal & Kale 2020, equation 1.

  With `r(x) = d(text, image) / d(text, x)`, the loss of a row is
  `alpha1 * r(neg_image)**rho + alpha2 * r(neg_text)**rho`, or its logarithm.
  Scaling all features by one number changes nothing.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    neg_image: an image of another anchor `[B, D]`.
    neg_text: the caption of `neg_image`, `[B, D]`; gradient flows into it.
    where: bool `[B]`, the rows that count; None: all. Rows without a negative
      must be left out.
    rho: sensitivity, above 0.
    alpha1: weight of the negative image, 0 or more.
    alpha2: weight of the negative text, 0 or more.
    objective: `'ratio'`, as printed, or `'log'`, the mean of the logarithms:
      the same best rows, but the gradient of a row does not grow with the
      fourth power of its ratio.
    eps: added to all distances, in units of the mean squared norm of `image`.
      It keeps values finite where a distance is 0; rows whose negative text is
      the anchor's own caption should be left out by `where`, as each would
      outweigh all others.

  Returns:
    A scalar; 0 if no row counts.

  Raises:
    ValueError: an option is out of range, or the shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> text, image = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])
    >>> far = jnp.array([[1.0, 2.0]])
    >>> round(float(m3l(text, image, far, far, rho=1)), 3)  # 1.5 * 1/4
    0.375
  """
  if objective not in ('ratio', 'log'):
    raise ValueError(f"objective={objective!r} must be 'ratio' or 'log'")
  if not 0 < rho < math.inf:
    raise ValueError(f'rho={rho} must be above 0')
  if min(alpha1, alpha2) < 0 or alpha1 + alpha2 <= 0:
    raise ValueError(
      f'alpha1={alpha1}, alpha2={alpha2} must be 0 or more, not both 0'
    )
  if not eps > 0:
    raise ValueError(f'eps={eps} must be above 0')
  text, image, neg_image, neg_text = _rows(
    where, text, image, neg_image, neg_text
  )
  unit = _mean(jnp.sum(jnp.square(image), axis=-1), where)
  unit = jax.lax.stop_gradient(unit)
  # All images zero: any positive number keeps the ratios finite.
  least = eps * jnp.where(unit > 0, unit, 1)
  positive = squared_distance(text, image) + least
  to_image = squared_distance(text, neg_image) + least
  to_text = squared_distance(text, neg_text) + least
  if objective == 'log':
    rows = jnp.logaddexp(
      _log(alpha1) + rho * jnp.log(positive / to_image),
      _log(alpha2) + rho * jnp.log(positive / to_text),
    )
  else:
    rows = alpha1 * (positive / to_image) ** rho
    rows += alpha2 * (positive / to_text) ** rho
  return _mean(rows, where)


def patr(
  text: jax.Array,
  image: jax.Array,
  neg_image: jax.Array,
  *,
  where: jax.Array | None = None,
  eta: float | jax.Array = 1100.0,
) -> jax.Array:
  """The positive-aware triplet ranking loss, same paper, equation 2.

  A row is `d(text, image) + max(0, eta - d(text, neg_image))`.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    neg_image: an image of another anchor `[B, D]`.
    where: bool `[B]`, the rows that count; None: all.
    eta: the radius within which negatives are pushed away, squared units of
      the features. The paper's 1100 belongs to ResNet-152 features as they
      come, about 1.3 of their mean squared norm; features divided by `s` need
      `eta / s**2`.

  Returns:
    A scalar; 0 if no row counts.

  Raises:
    ValueError: the shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> text, image = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])
    >>> float(patr(text, image, jnp.array([[1.0, 2.0]]), eta=10.0))
    7.0
  """
  text, image, neg_image = _rows(where, text, image, neg_image)
  positive = squared_distance(text, image)
  return _mean(
    positive + jax.nn.relu(eta - squared_distance(text, neg_image)), where
  )


def triplet(
  text: jax.Array,
  image: jax.Array,
  neg_image: jax.Array,
  *,
  where: jax.Array | None = None,
  margin: float = 0.2,
) -> jax.Array:
  """The triplet loss on squared distances, Schroff et al. 2015, equation 2.

  A row is `max(0, margin + d(text, image) - d(text, neg_image))`: unlike
  `patr`, a row whose negative is far enough has no gradient.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    neg_image: an image of another anchor `[B, D]`.
    where: bool `[B]`, the rows that count; None: all.
    margin: above 0, squared units of the features.

  Returns:
    A scalar; 0 if no row counts.

  Raises:
    ValueError: the shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> text, image = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])
    >>> float(triplet(text, image, jnp.array([[1.0, 2.0]]), margin=5.0))
    2.0
  """
  text, image, neg_image = _rows(where, text, image, neg_image)
  positive = squared_distance(text, image)
  return _mean(
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
  """The contrastive loss over the batch, with `-d` as similarity.

  The cross entropy of each text over the images of the batch (van den Oord et
  al. 2018, equation 4), or the mean of it and that of each image over the texts
  (Radford et al. 2021, figure 3, there with the cosine). All pairs are used, so
  the matrix `[B, B]` is built.

  Args:
    text: anchors `[B, D]`.
    image: the image of each anchor `[B, D]`.
    same: bool `[B, B]`, pairs that belong together though they are not of one
      row, such as two captions of an image: neither positive nor negative. The
      diagonal is ignored.
    temperature: above 0, squared units of the features.
    symmetric: whether images choose among texts as well.

  Returns:
    A scalar.

  Raises:
    ValueError: the shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> far_apart = jnp.array([[0.0, 9.0], [9.0, 0.0]])
    >>> float(info_nce(far_apart, far_apart))
    0.0
  """
  text, image = _rows(None, text, image)
  # A shift changes no distance. Rectified features are mostly their mean, and
  # without it the Gram form rounds some twenty times less.
  centre = jax.lax.stop_gradient(jnp.mean(image, axis=0))
  x, y = text - centre, image - centre
  logits = 2 * jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
  logits -= jnp.sum(jnp.square(x), axis=-1)[:, None]
  logits -= jnp.sum(jnp.square(y), axis=-1)[None, :]
  # The diagonal decides: exact where the Gram form cancels.
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


def _rows(where: jax.Array | None, *features: jax.Array) -> list[jax.Array]:
  """Features of one shape, wide, with zeros in the rows that are left out.

  Leaving out the value of a row is not enough: its gradient would be 0 times
  the slope there, which is NaN where the row is not finite or overflows.
  """
  features = tuple(_wide(x) for x in features)
  shapes = [x.shape for x in features]
  if len(set(shapes)) > 1 or len(shapes[0]) != 2:
    raise ValueError(f'features must be [B, D], all alike; shapes: {shapes}')
  if where is None:
    return list(features)
  if where.shape != shapes[0][:1]:
    raise ValueError(f'where has shape {where.shape}, not {shapes[0][:1]}')
  return [jnp.where(where[:, None], x, 0) for x in features]


def _mean(rows: jax.Array, where: jax.Array | None) -> jax.Array:
  if where is None:
    return jnp.mean(rows)
  total = jnp.sum(jnp.where(where, rows, 0))
  return total / jnp.maximum(jnp.sum(where), 1)


def _log(weight: float) -> float:
  return math.log(weight) if weight else -math.inf


def _wide(x: jax.Array) -> jax.Array:
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
