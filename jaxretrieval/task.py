"""Retrieval task: a text head on frozen features, see `launch.task`."""

import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxretrieval import losses, mining
from jaxretrieval.feature_sets import feature_set, locate, overlap
from jaxretrieval.training import (
  evaluators,
  objective,
  schema,
  text_head,
  training_set,
)

SCHEMA = schema.SCHEMA


def train_data(config: Any) -> Mapping[str, np.ndarray]:
  """Returns the training features, one example for each image or caption."""
  return _training_data(config).arrays


def init(config: Any, key: jax.Array) -> tuple[Any, Any]:
  """Returns initial `(params, constants)`; the constants are not trained."""
  training = _training_data(config)
  params = text_head.init(
    config.model,
    key,
    training.constants,
    training.split.images[:256],
    training.split.texts[:256],
  )
  return params, jax.tree.map(jnp.asarray, training.constants)


def make_loss(config: Any, mesh: Mesh | None) -> Any:
  """Returns the loss of the config, see `make_batch_loss`."""
  return make_batch_loss(
    config, _training_data(config).split.images.shape[1], mesh
  )


def make_batch_loss(config: Any, image_dim: int, mesh: Mesh | None) -> Any:
  """Returns the loss for image features of a known width, without reading data.

  The loss draws one caption of each image, encodes it with the head, and mines
  negatives: from the global batch, or from all training images in
  `batch['resident']` with `config.mining.bank`. The captions of negatives from
  the bank or from another shard are encoded again.

  Args:
    config: the config; `model`, `loss` and `mining` are used.
    image_dim: width of the image features.
    mesh: the devices over which a batch is sharded. None for one virtual
      device by itself: `batch` then holds the examples of number
      `batch['virtual_device']`, and `batch['whole']` the global batch.

  Raises:
    ValueError: fields cannot be combined, or the loss needs all pairs of a
      batch and `mesh` is None.
  """
  all_pairs = not objective.LOSSES[config.loss.name].negatives
  if mesh is None and all_pairs:
    raise ValueError(
      f'config.loss.name={config.loss.name!r} compares all pairs of a batch, '
      'but config.device_count_invariant=True computes each virtual device by '
      'itself: choose another loss, or set device_count_invariant=False'
    )
  model = text_head.create(config.model, image_dim)
  loss_fn = objective.make_loss_fn(config.loss)
  mine = objective.make_mining(config.mining, mesh)

  def loss(params: Any, constants: Any, batch: Any, key: jax.Array) -> Any:
    caption_key, bank_key, encode_key, image_key, mining_key = jax.random.split(
      key, 5
    )
    count, whole = len(batch['image']), batch
    if mesh is None:
      whole = batch['whole']
      bank_key = jax.random.fold_in(bank_key, batch['virtual_device'])
      encode_key = jax.random.fold_in(encode_key, batch['virtual_device'])

    def local(arrays: Any) -> Any:
      """Returns the examples of this virtual device of global arrays."""
      if mesh is not None:
        return arrays
      first = count * batch['virtual_device']
      return jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), arrays
      )

    encode = functools.partial(
      _encode, model, params, constants, config.model.text_noise
    )
    texts, all_ids = _draw_captions(caption_key, whole)
    text = encode(local(texts), jax.random.fold_in(encode_key, 0))
    images = _noisy_images(
      whole['image'], constants, config.model.image_noise, image_key
    )
    image, caption_ids = local(images), local(all_ids)
    anchors = mining.Items(text, batch['image_id'], caption_ids)
    metrics = {'positive': jnp.mean(losses.squared_distance(text, image))}
    if all_pairs:
      same = anchors.image_ids[:, None] == anchors.image_ids[None, :]
      same |= caption_ids[:, None] == caption_ids[None, :]
      return loss_fn(constants, text, image, same=same), (constants, metrics)
    random_bits = jax.random.bits(mining_key, (len(all_ids),), jnp.uint32)
    random_bits = local(random_bits)
    if config.mining.bank:
      bank = batch['resident']
      images = text_head.prepare_images(bank['image'], constants)
      candidates = mining.Items(images, bank['image_id'])
      negatives = mine.from_candidates(random_bits, anchors, candidates, image)
      drawn = {name: array[negatives.index] for name, array in bank.items()}
      texts, ids = _draw_captions(bank_key, drawn)
      valid = negatives.valid & (ids != caption_ids)
      negatives = negatives._replace(valid=valid)
    elif mesh is None:
      candidates = mining.Items(images, whole['image_id'], all_ids)
      negatives = mine.from_candidates(random_bits, anchors, candidates, image)
      texts = texts[negatives.index]
    if config.mining.bank or mesh is None:
      neg_text = encode(texts, jax.random.fold_in(encode_key, 1))
      neg_image = images[negatives.index]
    else:
      candidates = anchors
      negatives, neg_image, neg_text = mine.from_batch(
        random_bits, anchors, image
      )
    valid = negatives.valid
    value = loss_fn(constants, text, image, neg_image, neg_text, where=valid)
    metrics |= _negative_metrics(
      text, neg_image, neg_text, negatives, len(candidates.features)
    )
    return value, (constants, metrics)

  return loss


def make_evaluators(config: Any, mesh: Mesh) -> dict[str, Any]:
  """Returns the evaluators of `config.evals` by name."""
  training = _training_data(config)
  model = text_head.create(config.model, training.split.images.shape[1])
  return {
    name: evaluators.make_evaluator(model, split, languages, mesh)
    for name, (split, languages) in training.evals.items()
  }


def _encode(
  model: text_head.TextHead,
  params: Any,
  constants: Any,
  noise: float,
  texts: Any,
  key: jax.Array,
) -> Any:
  """Encodes texts with dropout and with noise of a relative length."""
  noise_key, dropout_key = jax.random.split(key)
  inputs = text_head.prepare_texts(texts, constants)
  if noise:
    norm = noise * jnp.sqrt(constants['text_mean_square'])
    inputs = _add_noise(noise_key, inputs, norm)
  return model.apply(
    {'params': params}, inputs, train=True, rngs={'dropout': dropout_key}
  )


def _noisy_images(
  images: Any, constants: Any, noise: float, key: jax.Array
) -> jax.Array:
  """Returns scaled images with noise of a relative length."""
  images = text_head.prepare_images(images, constants)
  if not noise:
    return images
  norm = noise * jnp.sqrt(constants['image_mean_square'])
  return _add_noise(key, images, norm / constants['image_scale'])


def _negative_metrics(
  text: jax.Array,
  neg_image: jax.Array,
  neg_text: jax.Array,
  negatives: mining.Negatives,
  candidates: int,
) -> dict[str, jax.Array]:
  valid = negatives.valid
  used = jnp.zeros(candidates).at[negatives.index].max(valid)
  return {
    'negative': _mean_where(text, neg_image, valid),
    'negative_text': _mean_where(text, neg_text, valid),
    # Near 0 if a few images are the negatives of all anchors: collapse.
    'distinct_negatives': jnp.sum(used) / len(text),
    'valid': jnp.mean(valid),
  }


def _add_noise(key: jax.Array, features: Any, norm: Any) -> Any:
  """Adds Gaussian noise of root mean square `norm` to each row."""
  # Flat, because random arrays of several axes compile slowly on a CPU.
  noise = jax.random.normal(key, (features.size,)).reshape(features.shape)
  return features + norm / np.sqrt(features.shape[1]) * noise


def _mean_where(x: jax.Array, y: jax.Array, where: jax.Array) -> jax.Array:
  distances = jnp.where(where, losses.squared_distance(x, y), 0)
  return jnp.sum(distances) / jnp.maximum(jnp.sum(where), 1)


def _draw_captions(key: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
  """Draws a caption of each image: features `[B, Dt]` and ids `[B]`."""
  uniform = jax.random.uniform(key, (len(batch['cdf']), 1))
  slot = jnp.sum(uniform >= batch['cdf'], axis=1, keepdims=True)
  slot = jnp.minimum(slot, batch['cdf'].shape[1] - 1)
  text = jnp.take_along_axis(batch['text'], slot[:, :, None], axis=1)[:, 0]
  return text, jnp.take_along_axis(batch['caption'], slot, axis=1)[:, 0]


class _TrainingData(NamedTuple):
  split: feature_set.Split
  arrays: dict[str, np.ndarray]
  constants: dict[str, np.ndarray]
  evals: dict[str, tuple[feature_set.Split, tuple[str, ...]]]


def _training_data(config: Any) -> _TrainingData:
  """Returns what the four task functions share, read from disk once."""
  sections = ('data', 'evals', 'model')
  return _load(json.dumps({name: config[name].to_dict() for name in sections}))


def _read_split(
  folder: Any, info: Any, section: str, fields: Any
) -> feature_set.Split:
  """Reads the split that a section of the config names."""
  split, languages = fields['split'], fields['languages']
  if split not in info.splits:
    raise ValueError(
      f'config.{section}.split={split!r} is not in {folder}: choose one of '
      f'{", ".join(sorted(info.splits))}'
    )
  known = info.splits[split]['captions']
  if unknown := [code for code in languages if code not in known]:
    raise ValueError(
      f'config.{section}.languages={tuple(languages)} has {unknown[0]!r}, but '
      f'{info.name} {split} has captions in {", ".join(sorted(known))}'
    )
  return feature_set.read(folder, split, languages=languages)


@functools.lru_cache(maxsize=1)
def _load(sections: str) -> _TrainingData:
  config = json.loads(sections)
  data = config['data']
  folder = locate.find(data)
  info = feature_set.read_info(folder)
  split = _read_split(folder, info, 'data', data)
  split = overlap.first_images(split, data['train_images'])
  evals = {}
  for name, fields in config['evals'].items():
    # An empty name stands for the training feature set.
    eval_folder = folder
    if fields['name']:
      fields['dir'] = fields['dir'] or data['dir']
      eval_folder = locate.find(fields, f'config.evals.{name}')
    eval_info = feature_set.read_info(eval_folder)
    overlap.check_same_encoders(info, eval_info)
    eval_split = _read_split(eval_folder, eval_info, f'evals.{name}', fields)
    split = overlap.drop_overlap(
      split, info, eval_split, eval_info, on_overlap=data['on_overlap']
    )
    evals[name] = eval_split, tuple(fields['languages'])
  arrays = training_set.training_arrays(
    split,
    data['languages'],
    sampling=data['sampling'],
    balance=data['balance'],
  )
  constants = text_head.scale_constants(
    config['model'], split.images, split.texts
  )
  constants['encoders'] = feature_set.encoders_fingerprint(info.encoders)
  return _TrainingData(split, arrays, constants, evals)
