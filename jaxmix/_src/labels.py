"""Mixed labels and the cross entropy of a mixed batch."""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.checks import (
  check_label_range,
  check_labels,
  check_number,
)
from jaxmix._src.settings import in_any_setting


class Pairs(Protocol):
  """The part of a draw that labels need: `Mix` and `HiddenMix` have it.

  Attributes:
    lam: float32 `[B]`: the weight of the sample's own label.
    partner: int32 `[B]`: sample `i` is mixed with sample `partner[i]`.
  """

  @property
  def lam(self) -> jax.Array: ...

  @property
  def partner(self) -> jax.Array: ...


@in_any_setting
def mix_labels(
  mix: Pairs,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
) -> jax.Array:
  """Mixes labels: `lam * label + (1 - lam) * partner's label`, dense.

  Args:
    mix: the draw that was applied to the images or to activations, a `Mix` or
      a `HiddenMix`.
    labels: integers `[B]` or dense, floating point `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: fraction of each label spread evenly over all classes.

  Returns:
    `[B, K]`: float32 for integer labels, else in the dtype of `labels`. A
    traced integer label outside `[0, K)` gives NaN, so that it cannot train
    silently.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range, or
      (dense, outside `jit`) not finite.

  >>> import jaxmix
  >>> mix = jaxmix.Mix(lam=jnp.array([0.75, 1.0]), partner=jnp.array([1, 0]))
  >>> mix_labels(mix, jnp.array([0, 2]), num_classes=3).tolist()
  [[0.75, 0.0, 0.25], [0.0, 0.0, 1.0]]
  """
  check_number('label_smoothing', label_smoothing, 0, 1)
  labels = check_labels(labels, mix.partner.shape[0], num_classes)
  if labels.ndim == 1:
    assert num_classes is not None
    labels = one_hot(labels, num_classes)
  lam = mix.lam[:, None]
  mixed = lam * labels + (1 - lam) * labels[mix.partner]
  if label_smoothing:
    even = label_smoothing / labels.shape[1]
    mixed = (1 - label_smoothing) * mixed + even
  return mixed.astype(labels.dtype)


def one_hot(labels: jax.Array, num_classes: int) -> jax.Array:
  """Returns integer labels as float32 `[B, K]`; NaN for a label out of range.

  >>> one_hot(jnp.array([1, 2]), 2).tolist()
  [[0.0, 1.0], [nan, nan]]
  """
  valid = ((labels >= 0) & (labels < num_classes))[:, None]
  dense = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
  return jnp.where(valid, dense, jnp.nan)


@in_any_setting
def mixed_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  mix: Pairs,
  *,
  label_smoothing: float = 0.0,
) -> jax.Array:
  """Computes `lam * CE(label) + (1 - lam) * CE(partner's label)`.

  Equal to the cross entropy with the labels of `mix_labels`, but those dense
  labels are never built: two log-probabilities are read for each sample.

  Args:
    logits: `[B, K]`; the loss is computed in float32.
    labels: integers `[B]`.
    mix: the draw that was applied to the images or to activations, a `Mix` or
      a `HiddenMix`.
    label_smoothing: fraction of each label spread evenly over all classes.

  Returns:
    float32 `[B]`: the cross entropy of each sample (natural logarithm). A
    traced label outside `[0, K)` gives NaN, not the loss of another class.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range.

  >>> import jaxmix
  >>> mix = jaxmix.Mix(lam=jnp.array([1.0]), partner=jnp.array([0]))
  >>> loss = mixed_cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]), mix)
  >>> round(float(loss[0]), 4)
  0.6931
  """
  check_number('label_smoothing', label_smoothing, 0, 1)
  if jnp.ndim(logits) != 2:
    raise ValueError(
      f'logits must be [batch, classes]; got shape {list(jnp.shape(logits))}.'
    )
  logits = jnp.asarray(logits)
  batch, num_classes = logits.shape
  if jnp.ndim(labels) != 1:
    raise ValueError(
      f'labels must be integers [batch]; got shape {list(jnp.shape(labels))}. '
      'For dense labels use jaxmix.mix_labels and a cross entropy of dense '
      'labels.'
    )
  if mix.partner.shape[0] != batch:
    raise ValueError(
      f'mix was drawn for a batch of {mix.partner.shape[0]}; got logits of '
      f'shape {list(logits.shape)}.'
    )
  labels = check_labels(labels, batch, num_classes)
  check_label_range(labels, num_classes)
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  valid = (labels >= 0) & (labels < num_classes)
  column = jnp.where(valid, labels, 0)[:, None]

  def cross_entropy(column: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(log_probs, column, axis=1)[:, 0]

  other = column[mix.partner]
  loss = mix.lam * cross_entropy(column) + (1 - mix.lam) * cross_entropy(other)
  if label_smoothing:
    even = -jnp.mean(log_probs, axis=1)
    loss = (1 - label_smoothing) * loss + label_smoothing * even
  # A product, so that the gradient is NaN as well.
  return loss * jnp.where(valid & valid[mix.partner], 1.0, jnp.nan)
