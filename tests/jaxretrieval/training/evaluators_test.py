"""Evaluators on one device and on eight."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import retrieval_quickstart
from jaxretrieval.training import evaluators, text_head
from launch.mesh import make_mesh
from tests.jaxretrieval import planted

# Neither its images nor its captions can be shared equally by eight.
IMAGES = 75


@functools.cache
def head():
  config = retrieval_quickstart.get_config()
  config.model.hidden = (16, 32)
  split = planted.splits(test=IMAGES)['test']
  constants = text_head.scale_constants(config.model, split.images, split.texts)
  params = text_head.init(
    config.model, jax.random.key(0), constants, split.images, split.texts
  )
  model = text_head.create(config.model, planted.IMAGE_DIM)
  return model, split, jax.device_get((params, constants))


@functools.cache
def results_of(devices, languages=('en', 'de')):
  model, split, state = head()
  mesh = make_mesh(jax.devices()[:devices])
  evaluate = evaluators.make_evaluator(model, split, languages, mesh)
  state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
  return evaluate(*state)()


@pytest.mark.slow
def test_batches_and_their_padding_change_nothing(monkeypatch):
  model, split, (params, constants) = head()
  images = text_head.prepare_images(split.images, constants)
  monkeypatch.setattr(evaluators, '_BATCH_SIZE', 64)
  results_of.cache_clear()
  encode = jax.jit(functools.partial(model.apply, train=False))
  rows = evaluators.caption_rows(split, 'de')
  inputs = text_head.prepare_texts(split.texts[rows], constants)
  texts: Any = encode({'params': params}, inputs)
  ranks = evaluators.both_ranks(texts, images, split.captions.image_index[rows])
  for name, value in evaluators.statistics(*ranks).items():
    assert results_of(1, ('de',))[f'de/{name}'] == value, name


@pytest.mark.devices
@pytest.mark.parametrize('block', [256, 16])
def test_eight_devices_find_what_one_finds(monkeypatch, block):
  monkeypatch.setattr(evaluators, '_BATCH_SIZE', block)
  results_of.cache_clear()
  one, eight = results_of(1), results_of(8)
  assert eight == one, 'devices that share the queries find something else'
  assert 0 < one['en/recall@10'] < 1


@pytest.mark.devices
def test_eight_devices_encode_to_the_bit_what_one_encodes(monkeypatch):
  monkeypatch.setattr(evaluators, '_BATCH_SIZE', 16)
  model, split, state = head()
  found = []
  for devices in (1, 8):
    mesh = make_mesh(jax.devices()[:devices])
    blocks = evaluators._put_batches(split.texts, mesh)
    assert len(blocks.sharding.device_set) == devices
    encode = evaluators._make_encode(model, mesh)
    placed = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    texts = jax.block_until_ready(encode(*placed, blocks, len(split.texts)))
    assert texts.is_fully_replicated, 'other processes could not read it'
    found.append(np.asarray(texts))
  np.testing.assert_array_equal(*found)


@pytest.mark.devices
def test_each_device_ranks_its_own_queries():
  def flops(devices):
    mesh = make_mesh(jax.devices()[:devices])
    rows = jax.ShapeDtypeStruct((64, 32), np.float32)
    ids = jax.ShapeDtypeStruct((64,), np.int32)
    program = evaluators._shard_ranks.lower(mesh, rows, rows, ids, ids)
    cost: Any = program.compile().cost_analysis()
    return cost['flops']

  share = flops(8) / flops(1)
  assert share < 0.2, f'each of eight devices does {share} of the work'
