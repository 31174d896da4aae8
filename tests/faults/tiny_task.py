"""Test task: a linear classifier on tiny data sets.

Training data are read and checked as for any network; what is fitted to them
compiles in a blink.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxmix.classification import task
from jaxmix.classification.datasets import splits
from jaxmix.classification.evaluators import clean, streamed
from tests.jaxmix.classification import tiny_cifar


def train_data(config):
  # Not when it is imported, which pytest does too: the data sets of all tests
  # of its process would be tiny.
  shrink()
  return task.train_data(config)


def shrink():
  splits.DATASETS['cifar100'] = tiny_cifar.SPEC
  splits.DATASETS['imagenet'] = dataclasses.replace(
    splits.DATASETS['imagenet'], image_shape=(32, 32, 3)
  )


def init(config, key):
  classes = splits.dataset_spec(config.data).num_classes
  return {'w': jnp.zeros((32 * 32 * 3, classes))}, {}


def predict(params, model_state, images):
  del model_state
  return images.reshape(len(images), -1) / 2550 @ params['w']


def make_loss(config, mesh):
  del config, mesh

  def loss(params, model_state, batch, key):
    del key
    logits = jax.nn.log_softmax(predict(params, {}, batch['image']))
    picked = jnp.take_along_axis(logits, batch['label'][:, None], 1)
    return -jnp.mean(picked), (model_state, {})

  return loss


def make_evaluators(config, mesh):
  options = {'batch_size': 4, 'mesh': mesh}
  if splits.dataset_spec(config.data).is_jpeg:
    photographs = splits.source(config.data, 'test')
    return {'clean': streamed.make(predict, photographs, **options)}
  examples = splits.load(config.data, 'test')
  return {'clean': clean.make(predict, examples, **options)}
