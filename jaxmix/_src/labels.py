"""Labels and losses of a mix: they follow the pixels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.checks import (
  check_label_range,
  check_labels,
  check_number,
)
from jaxmix._src.hidden_states.hidden_mix import HiddenMix
from jaxmix._src.mix import Mix


def mix_labels(
  mix: Mix | HiddenMix,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
) -> jax.Array:
  """`lam * label + (1 - lam) * partner's label`, as dense rows.

  Args:
    mix: the draw that was applied to the images, or to a hidden state.
    labels: integers `[B]` or dense, floating point `[B, K]`.
    num_classes: `K`; needed for integer labels.
    label_smoothing: share of each label spread evenly over all classes.

  Returns:
    `[B, K]`: float32 for integer labels, else in the dtype of `labels`. The
    row of an integer label outside `[0, K)` that is known only under `jit` is
    NaN, so that it cannot train silently.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range, or
      (dense, outside `jit`) not finite.

  >>> from jaxmix import Mix
  >>> mix = Mix(lam=jnp.array([0.75, 1.0]), partner=jnp.array([1, 0]),
  ...           mode=jnp.zeros(2, int))
  >>> mix_labels(mix, jnp.array([0, 2]), num_classes=3).tolist()
  [[0.75, 0.0, 0.25], [0.0, 0.0, 1.0]]
  """
  check_number('label_smoothing', label_smoothing, 0, 1)
  labels = check_labels(labels, mix.partner.shape[0], num_classes)
  if labels.ndim == 1:
    assert num_classes is not None
    known = ((labels >= 0) & (labels < num_classes))[:, None]
    rows = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    labels = jnp.where(known, rows, jnp.nan)
  lam = mix.lam[:, None]
  mixed = lam * labels + (1 - lam) * labels[mix.partner]
  if label_smoothing:
    even = label_smoothing / labels.shape[1]
    mixed = (1 - label_smoothing) * mixed + even
  return mixed.astype(labels.dtype)


def mixed_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  mix: Mix | HiddenMix,
  *,
  label_smoothing: float = 0.0,
) -> jax.Array:
  """`lam * CE(label) + (1 - lam) * CE(partner's label)`, without dense rows.

  Equal to the cross entropy on `mix_labels`, which it never builds: two
  numbers are read from each row of log-probabilities.

  Args:
    logits: `[B, K]`; the loss is computed in float32.
    labels: integers `[B]`.
    mix: the draw that was applied to the images, or to a hidden state.
    label_smoothing: share of each label spread evenly over all classes.

  Returns:
    float32 `[B]`: the loss of each sample, in nats. A label outside `[0, K)`
    that is known only under `jit` gives NaN, not the loss of another class.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range.

  >>> mix = jax.tree.map(jnp.asarray, Mix(lam=jnp.array([1.0]),
  ...     partner=jnp.array([0]), mode=jnp.zeros(1, int)))
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
      'For dense labels use jaxmix.mix_labels and your own cross entropy.'
    )
  if mix.partner.shape[0] != batch:
    raise ValueError(
      f'mix was drawn for a batch of {mix.partner.shape[0]}; got logits of '
      f'shape {list(logits.shape)}.'
    )
  labels = check_labels(labels, batch, num_classes)
  check_label_range(labels, num_classes)
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  known = (labels >= 0) & (labels < num_classes)
  column = jnp.where(known, labels, 0)[:, None]

  def nats(column: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(log_probs, column, axis=1)[:, 0]

  other = column[mix.partner]
  loss = mix.lam * nats(column) + (1 - mix.lam) * nats(other)
  if label_smoothing:
    even = -jnp.mean(log_probs, axis=1)
    loss = (1 - label_smoothing) * loss + label_smoothing * even
  # A product, so that the gradient is NaN as well.
  return loss * jnp.where(known & known[mix.partner], 1.0, jnp.nan)
