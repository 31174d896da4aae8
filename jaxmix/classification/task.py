"""Image classification with mixed samples, as a task of `launch.task`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

import jaxmix
from jaxmix.classification import audio, augment, losses, mixing, models, schema
from jaxmix.classification.datasets import splits
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
SOUNDS = {'clean': clean}
STREAMED = {'clean': streamed}  # the same of photographs

Augment = Callable[[Any, jax.Array], jax.Array]


def train_data(config: Any) -> Mapping[str, np.ndarray] | splits.Source:
  """The training images and labels: arrays in memory, or read one by one."""
  schema.check(config)
  if config.data.feed == 'resident':
    return splits.load(config.data, 'train')
  if config.data.feed == 'streamed':
    flip = config.augment.flip
    return splits.source(config.data, 'train', seed=config.seed, flip=flip)
  raise ValueError(
    f'config.data.feed={config.data.feed!r} is unknown; allowed: '
    "['resident', 'streamed']"
  )


def init(config: Any, key: jax.Array) -> tuple[Any, Any]:
  """Initial `(params, batch statistics)` of the network."""
  info = splits.dataset_spec(config.data)
  model = models.create(config.model, info.num_classes)
  image = jnp.zeros((1, *info.image_shape))
  variables = model.init(key, image, train=False)
  return variables['params'], variables['batch_stats']


def make_loss(config: Any, mesh: Mesh | None) -> Any:
  """Augment, mix, normalise, cut, and the mixed cross entropy.

  Without a mesh, of one of `config.virtual_devices` parts of the batch.
  """
  schema.check(config)
  return make_batch_loss(config, splits.dataset_spec(config.data), mesh)


def make_batch_loss(
  config: Any, info: splits.DatasetSpec, mesh: Mesh | None
) -> Any:
  """The same for images that no data set need have."""
  if mesh is None and config.batch_norm != 'ghost':
    raise ValueError(
      f"config.batch_norm={config.batch_norm!r} must be 'ghost' with "
      'config.device_count_invariant=True: every shard is computed by itself'
    )
  shards = config.virtual_devices
  here = 1 if mesh is None else shards
  model = models.create(
    config.model,
    info.num_classes,
    ghost_batches=here if config.batch_norm == 'ghost' else 1,
  )

  def postprocess(images: jax.Array) -> jax.Array:
    if not info.sample_rate:
      images = augment.normalise(images, info.mean, info.std)
    return images.astype(model.dtype)

  def own(batch: Any, drawn: Any) -> Any:
    """What was drawn of a whole batch, for the rows that are here."""
    if mesh is not None:
      return drawn
    count = len(batch['label'])
    first = count * batch['shard']
    return jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), drawn
    )

  place = mixing.MixContext(
    rows=config.batch_size // shards,
    image_shape=info.image_shape,
    num_classes=info.num_classes,
    mesh=mesh,
    postprocess=postprocess,
    states=functools.partial(models.states, model, info.image_shape),
    shards=here,
  )
  mix = mixing.make(config.mix, place)
  if not 0 <= config.label_smoothing < 1:
    raise ValueError(
      f'config.label_smoothing={config.label_smoothing} must lie in [0, 1)'
    )
  make_augment = _augment_sounds if info.sample_rate else _augment_pictures
  draw_augment, augmented = make_augment(config.augment, info, place)
  # Gathers along the batch: left to jit, each would collect it whole on every
  # device.
  score = place.by_shards(
    functools.partial(losses.score, label_smoothing=config.label_smoothing)
  )
  # Black after the normalisation is the mean colour, as in Cutout's own code.
  fill_box, cutout = place.by_rows(jaxmix.fill_box), config.augment.cutout

  def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
    augment_key, mix_key = jax.random.split(key)
    # Of all rows, and then taken: those of a shard alone would be others.
    total = len(batch['label']) * (shards if mesh is None else 1)
    drawn = own(batch, draw_augment(augment_key, total))
    images, labels = augmented(drawn, clean.example(batch)), batch['label']
    numbers = jnp.arange(shards) if mesh else batch['shard'][None]

    def train(images: jax.Array, hidden: Any = None) -> Any:
      variables = {'params': params, 'batch_stats': batch_stats}
      return model.apply(
        variables, images, train=True, hidden=hidden, mutable=['batch_stats']
      )

    mixed = mix(
      mix_key, numbers, images, labels, lambda images: train(images)[0]
    )
    images = mixed.images
    if cutout:
      # No shard has this number, which kinds of mixing fold in.
      cut_key = jax.random.fold_in(mix_key, 2**31 - 1)
      shape = (total, *images.shape[1:])
      box = jaxmix.draw_cutout(cut_key, shape, length=cutout)
      images = fill_box(images, own(batch, box))
    logits, state = train(images, mixed.hidden)
    nats, accuracy, lam = score(logits, labels, mixed.targets)
    if mixed.factor is not None:
      nats = mixed.factor * nats
    metrics = {'accuracy': jnp.mean(accuracy), 'lambda': jnp.mean(lam)}
    return jnp.mean(nats), (state['batch_stats'], metrics)

  return loss


def _augment_pictures(
  options: Any, info: splits.DatasetSpec, place: Any
) -> tuple[Any, Augment]:
  """`draw(key, B)` and `augmented(drawn, images)`."""
  if not 0 <= options.pad < min(info.image_shape[:2]):
    raise ValueError(
      f'config.augment.pad={options.pad} must be 0 or more and less than the '
      f'side of the {info.name} images, {info.image_shape[:2]}'
    )
  if info.photographs:
    if options.pad:
      raise ValueError(
        f'config.augment.pad={options.pad} must be 0: {info.name} is cropped '
        'as it is read'
      )
    # Those come cropped and mirrored.
    return lambda key, size: (), lambda drawn, images: images
  draw = functools.partial(
    augment.draw_crop_flip, pad=options.pad, flip=options.flip
  )
  return draw, place.by_rows(augment.crop_flip)


def _augment_sounds(
  options: Any, info: splits.DatasetSpec, place: Any
) -> tuple[Any, Augment]:
  """`draw(key, B)` and `augmented(drawn, waveforms)`."""

  # Noise and spectra are made by the device that has the sound: left to jit,
  # each would make those of the whole batch.
  @place.by_rows
  def pictures(keys: jax.Array, waveforms: jax.Array) -> jax.Array:
    drawn = audio.draw_distortion(
      keys,
      waveforms.shape[1],
      shift=round(options.shift * info.sample_rate),
      speed=options.speed,
      noise=options.noise,
    )
    return audio.log_mel(audio.distort(drawn, waveforms))

  return jax.random.split, pictures


def make_evaluators(config: Any, mesh: Mesh) -> dict[str, clean.Evaluate]:
  """The evaluators that `config.evals` names, on the test split.

  `validation` is `clean` on the validation split, where there is one.
  """
  schema.check(config)
  info = splits.dataset_spec(config.data)
  model = models.create(config.model, info.num_classes)

  rows = PartitionSpec('data')
  log_mel = jax.shard_map(
    audio.log_mel, mesh=mesh, in_specs=rows, out_specs=rows
  )

  def predict(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
    if info.sample_rate:
      images = log_mel(images)
    else:
      images = augment.normalise(images, info.mean, info.std)
    variables = {'params': params, 'batch_stats': batch_stats}
    logits: Any = model.apply(
      variables, images.astype(model.dtype), train=False
    )
    return logits

  read = splits.source if info.photographs else splits.load
  examples = read(config.data, 'test')
  known: dict[str, Any] = EVALUATORS
  if info.photographs or info.sample_rate:
    known = STREAMED if info.photographs else SOUNDS
  evaluators = {}
  for name, options in config.evals.items():
    if name == 'validation' and info.validation_examples:
      evaluators[name] = clean.make(
        predict, splits.load(config.data, name), mesh=mesh, name=name, **options
      )
      continue
    if name not in known:
      raise ValueError(
        f'config.evals.{name} is not an evaluation of {info.name}; allowed: '
        f'{sorted(known)}'
      )
    evaluators[name] = known[name].make(predict, examples, mesh=mesh, **options)
  return evaluators
