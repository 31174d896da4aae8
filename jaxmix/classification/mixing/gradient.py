"""What the network that is trained finds salient."""

import jax
import jax.numpy as jnp

import jaxmix
from jaxmix.classification.mixing.context import MixContext, Network


def find_saliency(
  place: MixContext, images: jax.Array, labels: jax.Array, network: Network
) -> jax.Array:
  """The size of the gradient of the unmixed images' cross entropies.

  Args:
    place: where the mixing is made for.
    images: uint8 `[B, H, W, C]`.
    labels: int32 `[B]`.
    network: finished images to logits.

  Returns:
    float32 `[B, H, W]`, through which nothing is differentiated.
  """

  def loss(finished: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(network(finished).astype(jnp.float32))
    return -jnp.sum(jax.nn.one_hot(labels, place.num_classes) * log_probs)

  finished = place.postprocess(images.astype(jnp.float32))
  gradient = jax.lax.stop_gradient(jax.grad(loss)(finished))
  return jaxmix.gradient_saliency(gradient)
