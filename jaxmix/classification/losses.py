"""Cross entropy and accuracy of a mixed batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxmix


class PairTargets(NamedTuple):
  """Targets of images that are each a mix of two.

  Attributes:
    lam: float32 `[B]`, the fraction of the image's own label.
    partner: int32 `[B]`, the index of the other image.
  """

  lam: jax.Array
  partner: jax.Array


# Dense targets are float32 `[B, K]` whose rows add up to 1.
Targets = PairTargets | jax.Array


def score(
  logits: jax.Array,
  labels: jax.Array,
  targets: Targets,
  *,
  label_smoothing: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the cross entropy and accuracy of logits for mixed labels.

  Args:
    logits: `[B, K]`.
    labels: int32 `[B]`, before the mixing.
    targets: the mixed labels.
    label_smoothing: fraction of each label that is spread over all classes.

  Returns:
    Three arrays float32 `[B]`: the cross entropies; the fraction of the
    targets that is the predicted class; the fraction of the image's own label.

  >>> lam, partner = jnp.array([0.75, 1.0]), jnp.array([1, 0])
  >>> pair = PairTargets(lam, partner)
  >>> logits, labels = jnp.array([[2.0, 1.0], [2.0, 1.0]]), jnp.array([0, 1])
  >>> loss, accuracy, own = score(logits, labels, pair, label_smoothing=0.0)
  >>> accuracy.tolist(), own.tolist()
  ([0.75, 0.0], [0.75, 1.0])
  """
  predicted = jnp.argmax(logits, axis=1)
  if isinstance(targets, PairTargets):
    lam, partner = targets
    mix = jaxmix.Mix(lam, partner, jnp.zeros_like(partner))
    losses = jaxmix.mixed_cross_entropy(
      logits, labels, mix, label_smoothing=label_smoothing
    )
    accuracy = lam * (predicted == labels)
    accuracy += (1 - lam) * (predicted == labels[partner])
    return losses, accuracy, lam
  own = jnp.take_along_axis(targets, labels[:, None], axis=1)[:, 0]
  accuracy = jnp.take_along_axis(targets, predicted[:, None], axis=1)[:, 0]
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  uniform = 1 / logits.shape[1]
  smooth = (1 - label_smoothing) * targets + label_smoothing * uniform
  return -jnp.sum(smooth * log_probs, axis=1), accuracy, own
