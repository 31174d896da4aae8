"""Image classification with mixed samples, as a task of `launch.task`."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import jaxmix
from jaxmix.classification import (
  augment,
  data,
  fields,
  losses,
  mixing,
  models,
)
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

  place = mixing.Place(info.image_shape, info.num_classes, mesh, finish)
  mix = mixing.make(config.mix, place)
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

  # Gathers along the batch: left to jit, each would collect it whole on every
  # device.
  crop_flip = place.by_rows(augment.crop_flip)
  score = place.by_rows(
    functools.partial(losses.score, label_smoothing=config.label_smoothing)
  )
  # Black after the normalisation is the mean colour, as in Cutout's own code.
  fill_box, cutout = place.by_rows(jaxmix.fill_box), config.augment.cutout

  def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
    images, labels = batch['image'], batch['label']
    crop_key, mix_key = jax.random.split(key)
    if not info.photographs:  # those come cropped and mirrored
      drawn = augment.draw_crop_flip(
        crop_key, len(images), pad=config.augment.pad, flip=config.augment.flip
      )
      images = crop_flip(drawn, images)

    def train(images: jax.Array) -> Any:
      variables = {'params': params, 'batch_stats': batch_stats}
      return model.apply(variables, images, train=True, mutable=['batch_stats'])

    mixed = mix(mix_key, images, labels, lambda images: train(images)[0])
    images = mixed.images
    if cutout:
      cut_key = jax.random.fold_in(mix_key, 1)
      box = jaxmix.draw_cutout(cut_key, images.shape, length=cutout)
      images = fill_box(images, box)
    logits, state = train(images)
    nats, accuracy, lam = score(logits, labels, mixed.targets)
    metrics = {'accuracy': jnp.mean(accuracy), 'lambda': jnp.mean(lam)}
    return jnp.mean(nats), (state['batch_stats'], metrics)

  return loss


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
