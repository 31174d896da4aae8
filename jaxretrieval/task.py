"""Training a text head on frozen features, as a task of `launch.task`."""

import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxretrieval import losses, mining, schema
from jaxretrieval.feature_sets import feature_set, locate
from jaxretrieval.index import exported_head
from jaxretrieval.training import evaluators, objective, text_head, training_set

SCHEMA = schema.SCHEMA


def train_data(config: Any) -> Mapping[str, np.ndarray]:
  """The training features, a row for each image (or each caption)."""
  return _training(config).arrays


def init(config: Any, key: jax.Array) -> tuple[Any, Any]:
  """Initial `(params, constants)`; the second never change in training."""
  training = _training(config)
  params = text_head.init(
    config.model,
    key,
    training.constants,
    training.split.images[:256],
    training.split.texts[:256],
  )
  return params, jax.tree.map(jnp.asarray, training.constants)


def make_loss(config: Any, mesh: Mesh | None) -> Any:
  """A caption of each image through the head, negatives, and the loss.

  Without a mesh, of one of `config.virtual_devices` parts of the batch.
  """
  return make_batch_loss(config, _training(config).split.images.shape[1], mesh)


def make_batch_loss(config: Any, image_dim: int, mesh: Mesh | None) -> Any:
  """Makes the loss of `make_loss` for images of a known width.

  Args:
    config: `config.model`, `config.loss` and `config.mining`; no data is read.
    image_dim: the width of the image features.
    mesh: the devices that share a batch. None: a device has a part of a batch,
      number `batch['shard']`, and the rows of all as `batch['whole']`.

  Returns:
    The loss. Negatives are those of the whole batch, or of `batch['resident']`
    with `config.mining.bank`. Of other parts of the batch and of a bank their
    captions are encoded again.
  """
  if mesh is None and config.loss.name == 'info_nce':
    raise ValueError(
      "config.loss.name='info_nce' compares all pairs of a batch, and "
      'config.device_count_invariant=True has each part of it computed by itself: '
      'choose another loss, or device_count_invariant=False'
    )
  model = text_head.create(config.model, image_dim)
  text_noise, image_noise = (
    _check_noise(config.model, field) for field in ('text_noise', 'image_noise')
  )
  compare = objective.make_loss_fn(config.loss)
  mine = objective.make_mining(config.mining, mesh)

  def loss(params: Any, constants: Any, batch: Any, key: jax.Array) -> Any:
    caption_key, bank_key, encode_key, image_key, mining_key = jax.random.split(
      key, 5
    )
    count, whole = len(batch['image']), batch
    if mesh is None:
      whole = batch['whole']
      bank_key = jax.random.fold_in(bank_key, batch['shard'])
      encode_key = jax.random.fold_in(encode_key, batch['shard'])

    def own(rows: Any) -> Any:
      """What was made of all rows of the batch, for those that are here."""
      if mesh is not None:
        return rows
      first = count * batch['shard']
      return jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), rows
      )

    def encode(texts: Any, key: jax.Array) -> Any:
      noise_key, dropout_key = jax.random.split(key)
      inputs = text_head.prepare_texts(texts, constants)
      if text_noise:
        length = text_noise * jnp.sqrt(constants['text_mean_square'])
        inputs = _add_noise(noise_key, inputs, length)
      return model.apply(
        {'params': params}, inputs, train=True, rngs={'dropout': dropout_key}
      )

    texts, all_ids = _draw_captions(caption_key, whole)
    text = encode(own(texts), jax.random.fold_in(encode_key, 0))
    images = text_head.prepare_images(whole['image'], constants)
    if image_noise:
      length = image_noise * jnp.sqrt(constants['image_mean_square'])
      length /= constants['image_scale']
      images = _add_noise(image_key, images, length)
    image, caption_ids = own(images), own(all_ids)
    anchors = mining.Items(text, batch['image_id'], caption_ids)
    metrics = {'positive': jnp.mean(losses.squared_distance(text, image))}
    if config.loss.name == 'info_nce':
      same = anchors.image_ids[:, None] == anchors.image_ids[None, :]
      same |= caption_ids[:, None] == caption_ids[None, :]
      return compare(constants, text, image, same=same), (constants, metrics)
    bits = own(jax.random.bits(mining_key, (len(all_ids),), jnp.uint32))
    if config.mining.bank:
      rows = batch['resident']
      images = text_head.prepare_images(rows['image'], constants)
      gallery = mining.Items(images, rows['image_id'])
      picked = mine.from_gallery(bits, anchors, gallery, image)
      negative = {name: array[picked.index] for name, array in rows.items()}
      texts, ids = _draw_captions(bank_key, negative)
      picked = picked._replace(valid=picked.valid & (ids != caption_ids))
    elif mesh is None:
      gallery = mining.Items(images, whole['image_id'], all_ids)
      picked = mine.from_gallery(bits, anchors, gallery, image)
      texts = texts[picked.index]
    if config.mining.bank or mesh is None:
      neg_text = encode(texts, jax.random.fold_in(encode_key, 1))
      neg_image = images[picked.index]
    else:
      gallery = anchors
      picked, neg_image, neg_text = mine.from_batch(bits, anchors, image)
    value = compare(
      constants, text, image, neg_image, neg_text, where=picked.valid
    )
    used = jnp.zeros(len(gallery.features)).at[picked.index].max(picked.valid)
    metrics |= {
      'negative': _mean_where(text, neg_image, picked.valid),
      'negative_text': _mean_where(text, neg_text, picked.valid),
      # Near 0 where a few images are the negative of all: a sign of collapse.
      'distinct_negatives': jnp.sum(used) / len(text),
      'valid': jnp.mean(picked.valid),
    }
    return value, (constants, metrics)

  return loss


def make_evaluators(config: Any, mesh: Mesh) -> dict[str, Any]:
  """The retrieval evaluations of `config.evals`, by name."""
  training = _training(config)
  model = text_head.create(config.model, training.split.images.shape[1])
  return {
    name: evaluators.make(model, split, languages, mesh)
    for name, (split, languages) in training.evals.items()
  }


def _check_noise(model_config: Any, field: str) -> float:
  if not 0 <= model_config[field] < np.inf:
    raise ValueError(
      f'config.model.{field}={model_config[field]} must be 0 or more: the '
      'length of the noise beside that of the features'
    )
  return model_config[field]


def _add_noise(key: jax.Array, rows: Any, length: Any) -> Any:
  """Adds Gaussian noise of that length, on average, to each row."""
  # Flat: arrays of several axes are slow to compile on a CPU.
  noise = jax.random.normal(key, (rows.size,)).reshape(rows.shape)
  return rows + length / np.sqrt(rows.shape[1]) * noise


def _mean_where(x: jax.Array, y: jax.Array, where: jax.Array) -> jax.Array:
  distances = jnp.where(where, losses.squared_distance(x, y), 0)
  return jnp.sum(distances) / jnp.maximum(jnp.sum(where), 1)


def _draw_captions(key: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
  """One caption for each row by its chance: features `[B, Dt]`, ids `[B]`."""
  chance = jax.random.uniform(key, (len(batch['cdf']), 1))
  slot = jnp.sum(chance >= batch['cdf'], axis=1, keepdims=True)
  slot = jnp.minimum(slot, batch['cdf'].shape[1] - 1)
  text = jnp.take_along_axis(batch['text'], slot[:, :, None], axis=1)[:, 0]
  return text, jnp.take_along_axis(batch['caption'], slot, axis=1)[:, 0]


class _Training(NamedTuple):
  split: feature_set.Split
  arrays: dict[str, np.ndarray]
  constants: dict[str, np.ndarray]
  evals: dict[str, tuple[feature_set.Split, tuple[str, ...]]]


def _training(config: Any) -> _Training:
  """What the four functions share, read once for all of them."""
  read = {name: config[name].to_dict() for name in ('data', 'evals', 'model')}
  return _load(json.dumps(read))


def _read(folder: Any, info: Any, block: str, wanted: Any) -> feature_set.Split:
  """Reads the split that a block of the config names."""
  split, languages = wanted['split'], wanted['languages']
  if split not in info.splits:
    raise ValueError(
      f'config.{block}.split={split!r}: {folder} has '
      f'{", ".join(sorted(info.splits))}'
    )
  known = info.splits[split]['captions']
  if unknown := [code for code in languages if code not in known]:
    raise ValueError(
      f'config.{block}.languages={tuple(languages)}: {unknown[0]!r} is not in '
      f'{info.name} {split}, which has {", ".join(sorted(known))}'
    )
  return feature_set.read(folder, split, languages=languages)


@functools.lru_cache(maxsize=1)
def _load(read: str) -> _Training:
  config = json.loads(read)
  wanted = config['data']
  folder = locate.find(wanted)
  info = feature_set.read_info(folder)
  split = _read(folder, info, 'data', wanted)
  split = training_set.first_images(split, wanted['train_images'])
  evals = {}
  for name, options in config['evals'].items():
    # An empty name: the set that is trained on.
    where = folder
    if options['name']:
      options['dir'] = options['dir'] or wanted['dir']
      where = locate.find(options, f'config.evals.{name}')
    eval_info = feature_set.read_info(where)
    training_set.check_same_encoders(info, eval_info)
    languages = tuple(options['languages'])
    eval_split = _read(where, eval_info, f'evals.{name}', options)
    split = training_set.drop_overlap(
      split, info, eval_split, eval_info, on_overlap=wanted['on_overlap']
    )
    evals[name] = eval_split, languages
  arrays = training_set.training_arrays(
    split,
    wanted['languages'],
    sampling=wanted['sampling'],
    balance=wanted['balance'],
  )
  constants = text_head.scale_constants(
    config['model'], split.images, split.texts
  )
  constants['encoders'] = exported_head.encoders_digest(info.encoders)
  return _Training(split, arrays, constants, evals)
