"""Image classification with mixed samples, as a task of `launch.task`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

import jaxmix
from jaxmix.classification import augment, data, fields, models
from jaxmix.classification.evaluators import (
  clean,
  corruption,
  fgsm,
  occlusion,
  streamed,
)

EVALUATORS = {
  'clean': clean,
  'fgsm': fgsm,
  'corruption': corruption,
  'occlusion': occlusion,
}
STREAMED = {'clean': streamed}  # the same of photographs


def train_data(config: Any) -> Mapping[str, np.ndarray] | data.Source:
  """The training images and labels: arrays in memory, or read one by one."""
  fields.check(config)
  if config.data.feed == 'resident':
    return data.load(config.data, 'train')
  if config.data.feed == 'streamed':
    flip = config.augment.flip
    return data.source(config.data, 'train', seed=config.seed, flip=flip)
  raise ValueError(
    f'config.data.feed={config.data.feed!r} is unknown; allowed: '
    "['resident', 'streamed']"
  )


def init(config: Any, key: jax.Array) -> tuple[Any, Any]:
  """Initial `(params, batch statistics)` of the network."""
  info = data.info(config.data)
  model = models.create(config.model, info.num_classes)
  image = jnp.zeros((1, *info.image_shape))
  variables = model.init(key, image, train=False)
  return variables['params'], variables['batch_stats']


def make_loss(config: Any, mesh: Mesh) -> Any:
  """Crop, flip, normalise, mix, cut, and the mixed cross entropy."""
  fields.check(config)
  return make_batch_loss(config, data.info(config.data), mesh)


def make_batch_loss(config: Any, info: data.Info, mesh: Mesh) -> Any:
  """The same for images that no data set need have."""
  model = models.create(config.model, info.num_classes)

  def finish(images: jax.Array) -> jax.Array:
    return augment.normalise(images, info.mean, info.std).astype(model.dtype)

  mix_images = make_mixing(config.mix, info.image_shape, mesh, finish)
  if not 0 <= config.label_smoothing < 1:
    raise ValueError(
      f'config.label_smoothing={config.label_smoothing} must lie in [0, 1)'
    )
  if not 0 <= config.augment.pad < min(info.image_shape[:2]):
    raise ValueError(
      f'config.augment.pad={config.augment.pad} must be 0 or more and less '
      f'than the side of the {info.name} images, {info.image_shape[:2]}'
    )
  if info.photographs and config.augment.pad:
    raise ValueError(
      f'config.augment.pad={config.augment.pad} must be 0: {info.name} is '
      'cropped as it is read'
    )

  def score(
    logits: jax.Array, labels: jax.Array, lam: jax.Array, partner: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    mix = jaxmix.Mix(lam, partner, jnp.zeros_like(partner))
    losses = jaxmix.mixed_cross_entropy(
      logits, labels, mix, label_smoothing=config.label_smoothing
    )
    right = jnp.argmax(logits, axis=1)
    own, other = right == labels, right == labels[partner]
    return losses, lam * own + (1 - lam) * other

  def by_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    rows = PartitionSpec('data')
    return jax.shard_map(
      function, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
    )

  # Gathers along the batch: left to jit, each would collect it whole on every
  # device.
  crop_flip, score = by_rows(augment.crop_flip), by_rows(score)
  # Black after the normalisation is the mean colour, as in Cutout's own code.
  fill_box, cutout = by_rows(jaxmix.fill_box), config.augment.cutout

  def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
    images, labels = batch['image'], batch['label']
    crop_key, mix_key = jax.random.split(key)
    if not info.photographs:  # those come cropped and mirrored
      drawn = augment.draw_crop_flip(
        crop_key, len(images), pad=config.augment.pad, flip=config.augment.flip
      )
      images = crop_flip(drawn, images)
    images, lam, partner = mix_images(mix_key, images)
    if cutout:
      cut_key = jax.random.fold_in(mix_key, 1)
      box = jaxmix.draw_cutout(cut_key, images.shape, length=cutout)
      images = fill_box(images, box)
    logits, state = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    losses, accuracy = score(logits, labels, lam, partner)
    metrics = {'accuracy': jnp.mean(accuracy), 'lambda': jnp.mean(lam)}
    return jnp.mean(losses), (state['batch_stats'], metrics)

  return loss


def make_mixing(
  mix_config: Any,
  image_shape: tuple[int, ...],
  mesh: Mesh,
  finish: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
  """Makes `(key, images) -> (mixed images, lam, partner)` of `config.mix`.

  Images come in as uint8 and go out as `finish` makes them: they are read and
  written once.

  The mixing runs on each device's part of the batch, so it moves no pixels
  between devices: partners are found within the part (and counted from its
  beginning). The key is the same everywhere, so one mode and one lambda hold
  for the whole batch; with granularity 'sample' every device has its own.

  Raises:
    ValueError: what `jaxmix.draw_random_mix` refuses, naming config.mix.
  """
  options = mix_config.to_dict()

  def mix_images(key: jax.Array, images: jax.Array) -> Any:
    mix = jaxmix.draw_random_mix(key, images.shape, **options)
    mixed = jaxmix.apply(mix, images, finish=finish)
    return mixed, mix.lam, mix.partner

  # What is wrong would be raised in the first step, without naming the config.
  try:
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.uint8)
    jax.eval_shape(mix_images, jax.random.key(0), images)
  except (TypeError, ValueError) as error:
    # Its messages begin with the argument, which is the field.
    raise ValueError(f'config.mix.{error}') from error

  def mix_part(key: jax.Array, images: jax.Array) -> Any:
    if mix_config.granularity == 'sample':
      key = jax.random.fold_in(key, jax.lax.axis_index('data'))
    return mix_images(key, images)

  rows, everywhere = PartitionSpec('data'), PartitionSpec()
  return jax.shard_map(
    mix_part,
    mesh=mesh,
    in_specs=(everywhere, rows),
    out_specs=rows,
    check_vma=False,
  )


def make_evaluators(config: Any, mesh: Mesh) -> dict[str, clean.Evaluate]:
  """The evaluators that `config.evals` names, on the test split."""
  fields.check(config)
  info = data.info(config.data)
  model = models.create(config.model, info.num_classes)

  def predict(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
    images = augment.normalise(images, info.mean, info.std)
    variables = {'params': params, 'batch_stats': batch_stats}
    logits: Any = model.apply(
      variables, images.astype(model.dtype), train=False
    )
    return logits

  read = data.source if info.photographs else data.load
  examples = read(config.data, 'test')
  known: dict[str, Any] = STREAMED if info.photographs else EVALUATORS
  evaluators = {}
  for name, options in config.evals.items():
    if name not in known:
      raise ValueError(
        f'config.evals.{name} is unknown; allowed: {sorted(known)}'
      )
    evaluators[name] = known[name].make(predict, examples, mesh=mesh, **options)
  return evaluators
