"""Mixed labels and the loss of a mixed batch."""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.checks import check_number
from jaxmix._src.label_checks import check_labels, check_values, check_where
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
  where: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
) -> jax.Array:
  """Mixes labels: `lam * label + (1 - lam) * partner's label`, dense.

  Args:
    mix: the draw that was applied to the images or to activations, a `Mix` or
      a `HiddenMix`.
    labels: integers `[B]` or dense `[B, K]`: floating point, integers 0 and 1,
      or bool.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: fraction of each label spread evenly over all classes.
    where: bool `[B]`, the samples whose label counts, for example
      `where=labels != -1`. A label that does not count may have any value and
      weight 0: with `v = where`, row `i` adds up to
      `lam[i] * v[i] + (1 - lam[i]) * v[partner[i]]`. None: all count.
    partner_labels: the labels of a second batch, in the form of `labels`, all
      of which count: label `i` is mixed with `partner_labels[partner[i]]`.
      None: `labels`.

  Returns:
    `[B, K]`, in the dtype of floating-point `labels`, else float32. A traced
    integer outside `[0, K)`, or outside {0, 1} in dense labels, gives NaN, so
    that it cannot train silently.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range, or
      (dense, outside `jit`) not finite; `where` of another shape or dtype.

  >>> import jaxmix
  >>> mix = jaxmix.Mix(lam=jnp.array([0.75, 1.0]), partner=jnp.array([1, 0]))
  >>> mix_labels(mix, jnp.array([0, 2]), num_classes=3).tolist()
  [[0.75, 0.0, 0.25], [0.0, 0.0, 1.0]]
  >>> labels = jnp.array([0, -1])
  >>> mix_labels(mix, labels, num_classes=3, where=labels != -1).tolist()
  [[0.75, 0.0, 0.0], [0.0, 0.0, 0.0]]
  """
  batch = mix.partner.shape[0]
  own = dense_labels(
    'labels', labels, batch, num_classes, label_smoothing, where=where
  )
  other = own
  if partner_labels is not None:
    check_same_form(labels, partner_labels)
    other = dense_labels(
      'partner_labels', partner_labels, batch, num_classes, label_smoothing
    )
  lam = _valid_lam(mix)[:, None].astype(own.dtype)
  other = other[mix.partner].astype(own.dtype)
  mixed = lam * own + (1 - lam) * other
  return mixed.astype(label_dtype(labels))


def _valid_lam(mix: Pairs) -> jax.Array:
  """Returns `lam`, NaN where the partner is not a sample of the batch.

  Known partners were checked. A traced one that is out of range must not train:
  platforms differ in what they read there.
  """
  valid = (mix.partner >= 0) & (mix.partner < mix.partner.shape[0])
  return jnp.where(valid, mix.lam, jnp.nan)


def dense_labels(
  name: str,
  labels: ArrayLike,
  batch: int,
  num_classes: int | None,
  label_smoothing: float,
  *,
  where: ArrayLike | None = None,
) -> jax.Array:
  """Returns checked labels as `[B, K]`, in float32 or wider.

  They are smoothed, and 0 where they do not count. A traced integer that is out
  of range gives NaN.

  Args:
    name: of the labels, for messages.
    labels: integers `[B]` or dense `[B, K]`.
    batch: `B`.
    num_classes: `K`, for integer labels.
    label_smoothing: see `mix_labels`.
    where: see `mix_labels`.
  """
  check_number('label_smoothing', label_smoothing, 0, 1)
  counts = check_where(where, batch)
  checked = check_labels(name, labels, batch, num_classes, counts)
  dense = _to_dense(checked, counts, num_classes)
  if label_smoothing:
    even = label_smoothing / dense.shape[1]
    dense = (1 - label_smoothing) * dense + even
  return dense if counts is None else jnp.where(counts[:, None], dense, 0)


def _to_dense(
  labels: jax.Array,
  counts: jax.Array | np.ndarray | None,
  num_classes: int | None,
) -> jax.Array:
  """Returns `[B, K]`, in float32 or wider; anything where it does not count."""
  if labels.ndim == 2:
    return labels if labels.dtype.itemsize > 4 else labels.astype(jnp.float32)
  assert num_classes is not None
  if counts is not None:
    labels = jnp.where(counts, labels, 0)
  return one_hot(labels, num_classes)


def label_dtype(labels: ArrayLike) -> np.dtype:
  """Returns the dtype of mixed labels: that of `labels`, or float32."""
  dtype = jnp.asarray(labels).dtype
  return dtype if jnp.issubdtype(dtype, jnp.floating) else np.dtype(np.float32)


def check_same_form(labels: ArrayLike, partner_labels: ArrayLike) -> None:
  """Raises ValueError unless both have one shape: `[B]` or `[B, K]`."""
  if jnp.shape(labels) != jnp.shape(partner_labels):
    raise ValueError(
      f'partner_labels have shape {list(jnp.shape(partner_labels))}; they need '
      f'that of labels, {list(jnp.shape(labels))}. Make integer labels dense '
      'by jax.nn.one_hot.'
    )


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
  where: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
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
    where: bool `[B]`, the samples whose label counts, for example
      `where=labels != -1`. The term of a label that does not count is 0, and so
      is its gradient if the logits are finite; the label may have any value.
      The mean over what is left is `loss.sum() / weight.sum()`, with
      `weight = mix.lam * where + (1 - mix.lam) * where[mix.partner]`. None: all
      count.
    partner_labels: see `jaxmix.mix_labels`.

  Returns:
    float32 `[B]`: the cross entropy of each sample (natural logarithm). A
    traced label outside `[0, K)` gives NaN, not the loss of another class.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range;
      `where` of another shape or dtype.

  >>> import jaxmix
  >>> mix = jaxmix.Mix(lam=jnp.array([1.0]), partner=jnp.array([0]))
  >>> loss = mixed_cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]), mix)
  >>> round(float(loss[0]), 4)
  0.6931
  """
  check_number('label_smoothing', label_smoothing, 0, 1)
  logits = _check_logits(logits, mix)
  batch, num_classes = logits.shape
  if jnp.ndim(labels) != 1:
    raise ValueError(
      f'labels must be integers [batch]; got shape {list(jnp.shape(labels))}. '
      'For dense labels use jaxmix.mix_labels and a cross entropy of dense '
      'labels; for classes that may occur together, '
      'jaxmix.mixed_sigmoid_cross_entropy.'
    )
  counts = check_where(where, batch)
  own = check_labels('labels', labels, batch, num_classes, counts)
  counts = None if counts is None else jnp.asarray(counts)
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))

  def cross_entropy(
    weight: jax.Array, labels: jax.Array, counts: jax.Array | None
  ) -> jax.Array:
    in_range = (labels >= 0) & (labels < num_classes)
    column = jnp.where(in_range, labels, 0)[:, None]
    loss = -jnp.take_along_axis(log_probs, column, axis=1)[:, 0]
    if label_smoothing:
      even = -jnp.mean(log_probs, axis=1)
      loss = (1 - label_smoothing) * loss + label_smoothing * even
    if counts is not None:
      in_range |= ~counts
      loss = jnp.where(counts, loss, 0)
    # Nothing, even where the class is impossible.
    loss = jnp.where(weight == 0, 0, weight * loss)
    # A product, so that the gradient is NaN as well.
    return loss * jnp.where(in_range, 1.0, jnp.nan)

  if partner_labels is None:
    other = own[mix.partner]
    counts_other = None if counts is None else counts[mix.partner]
  else:
    check_same_form(labels, partner_labels)
    other = check_labels('partner_labels', partner_labels, batch, num_classes)
    other, counts_other = other[mix.partner], None
  lam = _valid_lam(mix)
  return cross_entropy(lam, own, counts) + cross_entropy(
    1 - lam, other, counts_other
  )


@in_any_setting
def mixed_sigmoid_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  mix: Pairs,
  *,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
) -> jax.Array:
  """Computes the binary cross entropy of each class with the mixed labels.

  For classes that may occur together (multi-label), or for single labels as in
  `timm`. It is the mean over the classes of
  `optax.sigmoid_binary_cross_entropy` with the labels of `mix_labels`; times
  `K` it is the sum.

  Args:
    logits: `[B, K]`; the loss is computed in float32.
    labels: `[B, K]` in [0, 1], floating point, integers 0 and 1, or bool; or
      integers `[B]`, one class each.
    mix: the draw that was applied to the images or to activations, a `Mix` or
      a `HiddenMix`.
    label_smoothing: fraction of each label spread evenly over its two values:
      0 becomes `label_smoothing / 2`, and 1 becomes `1 - label_smoothing / 2`.
      (In `mix_labels` it is spread over the classes.)
    where: the labels that count, bool `[B]`, or `[B, K]` if single classes of a
      sample are unknown. The term of a label that does not count is 0, and so
      is its gradient; the label may have any value. The mean over what is left
      is `loss.sum() / weight.sum()`, with `weight` as for
      `mixed_cross_entropy`; for `[B, K]` `K * loss.sum() / weight.sum()`, with
      `lam[:, None]` in place of `lam`. None: all count.
    partner_labels: see `jaxmix.mix_labels`.

  Returns:
    float32 `[B]`: the mean over the classes for each sample (natural
    logarithm). A traced label outside [0, 1] gives NaN.

  Raises:
    ValueError, TypeError: logits or labels of another shape, dtype or range;
      `where` of another shape or dtype.

  >>> import jaxmix
  >>> mix = jaxmix.Mix(lam=jnp.array([1.0]), partner=jnp.array([0]))
  >>> labels = jnp.array([[1, 0, 1]])
  >>> loss = mixed_sigmoid_cross_entropy(jnp.zeros((1, 3)), labels, mix)
  >>> round(float(loss[0]), 4)
  0.6931
  """
  check_number('label_smoothing', label_smoothing, 0, 1)
  logits = _check_logits(logits, mix).astype(jnp.float32)
  batch, num_classes = logits.shape
  counts = check_where(where, batch, num_classes)
  log_p, log_not_p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)

  def targets(
    name: str, labels: ArrayLike, counts: jax.Array | np.ndarray | None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the weights of present and absent, float32 `[B, K]`."""
    if counts is not None and counts.ndim > jnp.ndim(labels):
      raise ValueError(
        f'where has shape {list(counts.shape)}; integer labels [batch] need '
        f'[{batch}].'
      )
    checked = check_labels(name, labels, batch, num_classes, counts)
    if checked.ndim == 2:
      check_values(
        name, checked, counts, lambda x: (x >= 0) & (x <= 1), 'lie in [0, 1]'
      )
    dense = _to_dense(checked, counts, num_classes).astype(jnp.float32)
    dense = jnp.where((dense >= 0) & (dense <= 1), dense, jnp.nan)
    present = (1 - label_smoothing) * dense + label_smoothing / 2
    absent = 1 - present
    if counts is not None:
      counts = counts if counts.ndim == 2 else counts[:, None]
      present = jnp.where(counts, present, 0)
      absent = jnp.where(counts, absent, 0)
    return present, absent

  own = targets('labels', labels, counts)
  other = own
  if partner_labels is not None:
    check_same_form(labels, partner_labels)
    other = targets('partner_labels', partner_labels, None)
  lam = _valid_lam(mix)[:, None]
  present, absent = (
    lam * mine + (1 - lam) * theirs[mix.partner]
    for mine, theirs in zip(own, other, strict=True)
  )
  return -jnp.mean(present * log_p + absent * log_not_p, axis=1)


def _check_logits(logits: ArrayLike, mix: Pairs) -> jax.Array:
  """Returns `logits` as an array `[B, K]` for the batch of `mix`."""
  if jnp.ndim(logits) != 2:
    raise ValueError(
      f'logits must be [batch, classes]; got shape {list(jnp.shape(logits))}.'
    )
  logits = jnp.asarray(logits)
  batch = mix.partner.shape[0]
  if logits.shape[0] != batch:
    raise ValueError(
      f'mix was drawn for a batch of {batch}; got logits of shape '
      f'{list(logits.shape)}.'
    )
  return logits
