"""The loss of a mixed batch, and its share of right answers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxmix


class Pairs(NamedTuple):
  """Each image is a mix of two: float32 `[B]` and int32 `[B]`, as `Mix` has."""

  lam: jax.Array
  partner: jax.Array


# Or dense float32 `[B, K]`, rows that add up to 1, for images of several.
Targets = Pairs | jax.Array


def score(
  logits: jax.Array,
  labels: jax.Array,
  targets: Targets,
  *,
  label_smoothing: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Scores logits against mixed labels.

  Args:
    logits: `[B, K]`.
    labels: int32 `[B]`, before the mixing.
    targets: which of them make up each image, and by which shares.
    label_smoothing: share of each label spread evenly over all classes.

  Returns:
    Three of float32 `[B]`: cross entropies in nats; the share of the label that
    has the largest logit; the share of the image's own label.

  >>> pair = Pairs(jnp.array([0.75, 1.0]), jnp.array([1, 0]))
  >>> logits, labels = jnp.array([[2.0, 1.0], [2.0, 1.0]]), jnp.array([0, 1])
  >>> loss, accuracy, own = score(logits, labels, pair, label_smoothing=0.0)
  >>> accuracy.tolist(), own.tolist()
  ([0.75, 0.0], [0.75, 1.0])
  """
  best = jnp.argmax(logits, axis=1)
  if isinstance(targets, Pairs):
    lam, partner = targets
    mix = jaxmix.Mix(lam, partner, jnp.zeros_like(partner))
    losses = jaxmix.mixed_cross_entropy(
      logits, labels, mix, label_smoothing=label_smoothing
    )
    right = best == labels
    return losses, lam * right + (1 - lam) * (best == labels[partner]), lam
  own = jnp.take_along_axis(targets, labels[:, None], axis=1)[:, 0]
  accuracy = jnp.take_along_axis(targets, best[:, None], axis=1)[:, 0]
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  even = 1 / logits.shape[1]
  smooth = (1 - label_smoothing) * targets + label_smoothing * even
  return -jnp.sum(smooth * log_probs, axis=1), accuracy, own
