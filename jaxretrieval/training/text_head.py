"""Text head: an MLP from sentence features to the image feature space."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

DTYPES = {'bfloat16': jnp.bfloat16, 'float32': jnp.float32}
FEATURE_SCALES = ('rms', 'none')
OUTPUTS = ('relu', 'linear')
OUTPUT_SCALES = ('glorot', 'match')
OUTPUT_BIASES = ('zero', 'mean_image')


class TextHead(nn.Module):
  """Dense layers with dropout, ReLU and l2-norm, Aggarwal & Kale 2020, 3.1.

  The last block has no l2-norm, because pooled image features have any norm.
  Biases are initialised to 0, kernels to Glorot uniform.

  Attributes:
    dims: width of each block; the last one is that of the image features.
    dropout: rate of each block, in [0, 1).
    output: `'relu'` as in the paper, for non-negative image features, or
      `'linear'`, which omits the last ReLU.
    dtype: dtype of the matrix products; parameters and output are float32.
  """

  dims: tuple[int, ...]
  dropout: tuple[float, ...]
  output: str = 'relu'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, text: jax.Array, *, train: bool) -> jax.Array:
    """Maps texts `[B, Dt]` to `[B, dims[-1]]`; `train` enables dropout."""
    x = text
    for i, (dim, rate) in enumerate(zip(self.dims, self.dropout, strict=True)):
      x = nn.Dense(
        dim,
        dtype=self.dtype,
        kernel_init=nn.initializers.glorot_uniform(),
        name=f'block{i + 1}',
      )(x)
      x = nn.Dropout(rate, deterministic=not train)(x)
      x = x.astype(jnp.float32)
      inner = i < len(self.dims) - 1
      if inner or self.output == 'relu':
        x = nn.relu(x)
      if inner:
        # Rows of zeros stay zero, and so do their gradients.
        squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
    return x


def create(model_config: Any, image_dim: int) -> TextHead:
  """Returns the head of `config.model`.

  Args:
    model_config: `hidden`, the widths of all blocks except the last; `dropout`,
      one rate for each block; `output`; and `dtype`.
    image_dim: width of the last block.

  Raises:
    ValueError: a field has a value that is not allowed.
  """
  hidden, dropout = tuple(model_config['hidden']), model_config['dropout']
  if any(type(dim) is not int or dim < 1 for dim in hidden):
    raise ValueError(
      f'config.model.hidden={hidden} must be integers of 1 or more'
    )
  rates = len(hidden) + 1
  if len(dropout) != rates or not all(0 <= rate < 1 for rate in dropout):
    raise ValueError(
      f'config.model.dropout={tuple(dropout)} must be {rates} rates in [0, 1): '
      'one for each width in config.model.hidden, and one for the last block'
    )
  _check_choice(model_config, 'dtype', DTYPES)
  _check_choice(model_config, 'output', OUTPUTS)
  return TextHead(
    dims=(*hidden, image_dim),
    dropout=tuple(dropout),
    output=model_config['output'],
    dtype=DTYPES[model_config['dtype']],
  )


def scale_constants(
  model_config: Any, images: np.ndarray, texts: np.ndarray
) -> dict[str, Any]:
  """Returns the constants that normalise features, from the training set.

  Args:
    model_config: `feature_scale`: `'rms'` divides all images by one number,
      `sqrt(mean |image|^2)`, which preserves all ratios of distances and all
      rankings; `'none'` leaves them unscaled, and the losses see distances of
      several hundred (see docs/retrieval.md). `center_text`: whether to
      subtract the mean text; sentence encoders map all languages and meanings
      into a narrow cone.
    images: `[N, Di]`.
    texts: `[M, Dt]`.

  Returns:
    float32 `image_scale` `[]`; `image_mean_square` `[]` and `image_mean` `[Di]`
    of the unscaled images; `text_mean` `[Dt]`; and `text_mean_square` `[]` of
    the centred texts.

  Raises:
    ValueError: a field has a value that is not allowed, or all images are zero.
  """
  _check_choice(model_config, 'feature_scale', FEATURE_SCALES)
  squares = np.einsum('nd,nd->n', images, images, dtype=np.float64)
  mean_square = float(squares.mean())
  if not mean_square > 0:
    raise ValueError(
      'all image features of the training set are zero: extract them again'
    )
  rms = model_config['feature_scale'] == 'rms'
  mean = np.zeros(texts.shape[1:], np.float32)
  if model_config['center_text']:
    mean = texts.mean(axis=0, dtype=np.float64).astype(np.float32)
  centred = texts - mean
  return {
    'image_scale': np.float32(np.sqrt(mean_square) if rms else 1),
    'image_mean_square': np.float32(mean_square),
    'image_mean': images.mean(axis=0, dtype=np.float64).astype(np.float32),
    'text_mean': mean,
    'text_mean_square': np.float32(
      np.einsum('md,md->m', centred, centred).mean()
    ),
  }


def init(
  model_config: Any,
  key: jax.Array,
  constants: Mapping[str, Any],
  images: np.ndarray,
  texts: np.ndarray,
) -> Any:
  """Returns initial parameters of the head.

  Args:
    model_config: the fields of `create`; `output_scale`: `'glorot'`, or
      `'match'`, which multiplies the last kernel by one number so that encoded
      texts have the mean squared norm of images; `output_bias`: `'zero'`, or
      `'mean_image'`, the best constant prediction.
    key: a JAX key.
    constants: result of `scale_constants`.
    images: a sample of the training images `[N, Di]`.
    texts: a sample of the training texts `[M, Dt]`.

  Raises:
    ValueError: a field has a value that is not allowed.
  """
  _check_choice(model_config, 'output_scale', OUTPUT_SCALES)
  _check_choice(model_config, 'output_bias', OUTPUT_BIASES)
  if model_config['output_scale'] == 'match' and (
    model_config['output_bias'] != 'zero'
  ):
    raise ValueError(
      "config.model.output_scale='match' needs config.model.output_bias='zero'"
    )
  model = create(model_config, images.shape[1])
  inputs = prepare_texts(texts, constants)
  params: Any = model.init(key, inputs, train=False)['params']
  last = params[f'block{len(model.dims)}']
  if model_config['output_scale'] == 'match':

    def mean_square(x):
      return jnp.mean(jnp.sum(jnp.square(x), axis=-1))

    outputs = model.apply({'params': params}, inputs, train=False)
    target = mean_square(prepare_images(images, constants))
    # Scaling the kernel scales the output: the biases are 0 and ReLU is
    # homogeneous.
    last['kernel'] *= jnp.sqrt(target / mean_square(outputs))
  if model_config['output_bias'] == 'mean_image':
    last['bias'] = constants['image_mean'] / constants['image_scale']
  return params


def prepare_images(images: Any, constants: Mapping[str, Any]) -> jax.Array:
  """Returns scaled images float32 `[N, Di]`, the targets of the head."""
  return jnp.asarray(images, jnp.float32) / constants['image_scale']


def prepare_texts(texts: Any, constants: Mapping[str, Any]) -> jax.Array:
  """Returns centred texts float32 `[M, Dt]`, the inputs of the head."""
  return jnp.asarray(texts, jnp.float32) - constants['text_mean']


def _check_choice(model_config: Any, field: str, allowed: Any) -> None:
  if model_config[field] not in allowed:
    raise ValueError(
      f'config.model.{field}={model_config[field]!r} must be one of '
      f'{", ".join(allowed)}'
    )
