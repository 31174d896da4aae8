"""Image classification task: training with mixed samples, and evaluations."""

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
from jaxmix.classification.evaluators import EVALUATORS, clean, streamed

SCHEMA = schema.SCHEMA

Augment = Callable[[Any, jax.Array], jax.Array]


def train_data(config: Any) -> Mapping[str, np.ndarray] | splits.Source:
  """Returns the training examples: arrays in memory, or a source to read."""
  if config.data.feed == 'resident':
    return splits.load(config.data, 'train')
  flip = config.augment.get('flip', False)  # audio has no such field
  return splits.source(config.data, 'train', seed=config.seed, flip=flip)


def init(config: Any, key: jax.Array) -> tuple[Any, Any]:
  """Returns the initial `(params, batch statistics)` of the network."""
  spec = splits.dataset_spec(config.data)
  model = models.create(config.model, spec.num_classes)
  image = jnp.zeros((1, *spec.image_shape))
  variables = model.init(key, image, train=False)
  return variables['params'], variables['batch_stats']


def make_loss(config: Any, mesh: Mesh | None) -> Any:
  """Returns the loss: augment, mix, normalise, Cutout, cross entropy.

  Without a mesh, it is the loss of one of the `config.virtual_devices`.
  """
  return make_batch_loss(config, splits.dataset_spec(config.data), mesh)


def make_batch_loss(
  config: Any, spec: splits.DatasetSpec, mesh: Mesh | None
) -> Any:
  """Returns the loss of `make_loss` for examples as `spec` describes them."""
  if mesh is None and config.batch_norm != 'ghost':
    raise ValueError(
      f"config.batch_norm={config.batch_norm!r} must be 'ghost' if "
      'config.device_count_invariant=True: every virtual device is then '
      'computed by itself'
    )
  virtual_devices = config.virtual_devices
  # Without a mesh, the loss sees the examples of one virtual device.
  visible = 1 if mesh is None else virtual_devices
  model = models.create(
    config.model,
    spec.num_classes,
    ghost_batches=visible if config.batch_norm == 'ghost' else 1,
  )

  def postprocess(images: jax.Array) -> jax.Array:
    if not spec.sample_rate:
      images = augment.normalise(images, spec.mean, spec.std)
    return images.astype(model.dtype)

  def own_part(batch: Any, drawn: Any) -> Any:
    """Returns what was drawn for a whole batch, for the examples of `batch`."""
    if mesh is not None:
      return drawn
    count = len(batch['label'])
    first = count * batch['virtual_device']
    return jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), drawn
    )

  context = mixing.MixContext(
    virtual_batch_size=config.batch_size // virtual_devices,
    image_shape=spec.image_shape,
    num_classes=spec.num_classes,
    mesh=mesh,
    postprocess=postprocess,
    activation_shapes=functools.partial(
      models.activation_shapes, model, spec.image_shape
    ),
    virtual_devices=visible,
  )
  mix = mixing.make(config.mix, context)
  make_augment = _augment_audio if spec.sample_rate else _augment_images
  draw_augment, augment_batch = make_augment(config.augment, spec, context)
  # Labels are gathered along the batch: with jit alone, every device would
  # collect the whole batch.
  score = context.map_virtual_devices(
    functools.partial(losses.score, label_smoothing=config.label_smoothing)
  )
  # Zero after the normalisation is the mean colour, as in Cutout's own code.
  fill_box = context.map_examples(jaxmix.fill_box)
  cutout = config.augment.cutout

  def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
    augment_key, mix_key = jax.random.split(key)
    # Drawn for the whole batch and then sliced, so that an example has the same
    # draw whether the batch is computed whole or in parts.
    total = len(batch['label']) * (virtual_devices if mesh is None else 1)
    drawn = own_part(batch, draw_augment(augment_key, total))
    images, labels = augment_batch(drawn, clean.example(batch)), batch['label']
    indices = (
      jnp.arange(virtual_devices) if mesh else batch['virtual_device'][None]
    )

    def train(images: jax.Array, activation_hook: Any = None) -> Any:
      return model.apply(
        {'params': params, 'batch_stats': batch_stats},
        images,
        train=True,
        activation_hook=activation_hook,
        mutable=['batch_stats'],
      )

    mixed = mix(
      mix_key, indices, images, labels, lambda images: train(images)[0]
    )
    images = mixed.images
    if cutout:
      # Mixing folds in the index of a virtual device, never this large.
      cut_key = jax.random.fold_in(mix_key, 2**31 - 1)
      shape = (total, *images.shape[1:])
      box = jaxmix.draw_cutout(cut_key, shape, length=cutout)
      images = fill_box(images, own_part(batch, box))
    logits, state = train(images, mixed.activation_hook)
    cross_entropy, accuracy, lam = score(logits, labels, mixed.targets)
    if mixed.loss_factor is not None:
      cross_entropy = mixed.loss_factor * cross_entropy
    metrics = {'accuracy': jnp.mean(accuracy), 'lambda': jnp.mean(lam)}
    return jnp.mean(cross_entropy), (state['batch_stats'], metrics)

  return loss


def _augment_images(
  options: Any, spec: splits.DatasetSpec, context: mixing.MixContext
) -> tuple[Any, Augment]:
  """Returns `draw(key, B)` and `augment(drawn, images)`."""
  if spec.is_jpeg:  # They were cropped and mirrored as they were read.
    return lambda key, size: (), lambda drawn, images: images
  draw = functools.partial(
    augment.draw_crop_flip, pad=options.pad, flip=options.flip
  )
  return draw, context.map_examples(augment.crop_flip)


def _augment_audio(
  options: Any, spec: splits.DatasetSpec, context: mixing.MixContext
) -> tuple[Any, Augment]:
  """Returns `draw(key, B)` and `augment(drawn, waveforms)`."""

  # Every device computes the noise and the spectrograms of its own examples:
  # with jit alone, it would compute those of the whole batch.
  @context.map_examples
  def spectrograms(keys: jax.Array, waveforms: jax.Array) -> jax.Array:
    drawn = audio.draw_distortion(
      keys,
      waveforms.shape[1],
      shift=round(options.shift * spec.sample_rate),
      speed=options.speed,
      noise=options.noise,
    )
    return audio.log_mel(audio.distort(drawn, waveforms))

  return jax.random.split, spectrograms


def make_evaluators(config: Any, mesh: Mesh) -> dict[str, clean.Evaluate]:
  """Returns the evaluators that `config.evals` names, on the test split.

  `validation` is `clean` on the validation split, where there is one.
  """
  spec = splits.dataset_spec(config.data)
  model = models.create(config.model, spec.num_classes)

  split = PartitionSpec('data')
  log_mel = jax.shard_map(
    audio.log_mel, mesh=mesh, in_specs=split, out_specs=split
  )

  def predict(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
    if spec.sample_rate:
      images = log_mel(images)
    else:
      images = augment.normalise(images, spec.mean, spec.std)
    variables = {'params': params, 'batch_stats': batch_stats}
    logits: Any = model.apply(
      variables, images.astype(model.dtype), train=False
    )
    return logits

  read = splits.source if spec.is_jpeg else splits.load
  examples = read(config.data, 'test')
  evaluators = {}
  for name, options in config.evals.items():
    if name == 'validation':
      evaluators[name] = clean.make(
        predict, splits.load(config.data, name), mesh=mesh, name=name, **options
      )
      continue
    make = streamed.make if spec.is_jpeg else EVALUATORS[name].make
    evaluators[name] = make(predict, examples, mesh=mesh, **options)
  return evaluators
