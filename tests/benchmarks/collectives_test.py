import pytest

from benchmarks import collectives as bench
from benchmarks.compiled.hlo import Collective
from benchmarks.compiled.programs import Compiled, Program, compiled

SMALL = {'model.width': 4, 'model.dtype': 'bfloat16'}


def small(norm, mixing):
  fields = SMALL | {'batch_norm': norm}
  argument = f'model=preact,method={mixing}'
  return Program('table1_cifar', argument, 8, fields)


@pytest.fixture(scope='module')
def found():
  programs = {
    (norm, mixing): small(norm, mixing)
    for norm, mixing in (
      ('ghost', 'random_mix'),
      ('ghost', 'none'),
      ('global', 'random_mix'),
    )
  }
  pairs = compiled(list(programs.values()), 8)
  return dict(zip(programs, (one for _, one in pairs), strict=True))


@pytest.mark.slow
def test_mixing_exchanges_nothing(found):
  mixed, plain = found['ghost', 'random_mix'], found['ghost', 'none']
  numbers = [
    [(x.kind, x.bytes, x.arrays, x.times) for x in one.collectives]
    for one in (mixed, plain)
  ]
  assert numbers[0] == numbers[1], 'devices exchange data to mix'
  assert bench.parts(mixed) == bench.parts(plain)
  assert bench.parts(mixed)['mining'] == 0


@pytest.mark.slow
def test_a_step_sums_gradients_and_metrics(found):
  one = found['ghost', 'random_mix']
  parts = bench.parts(one)
  assert parts['gradients'] == 4 * one.parameters
  assert parts['metrics'] == 12  # loss, accuracy, lambda
  total = sum(x.bytes for x in one.collectives)
  assert total == sum(parts.values()) == 4 * one.packed
  assert {x.kind for x in one.collectives} == {'all-reduce'}


@pytest.mark.slow
def test_global_batch_norm_waits_in_every_layer(found):
  many = len(found['global', 'random_mix'].collectives)
  few = len(found['ghost', 'random_mix'].collectives)
  assert many >= 34 + few, '17 layers, forward and backward'


@pytest.mark.slow
def test_a_text_head_mines_in_the_features_of_other_devices():
  fields = {'model.hidden': (8, 8), 'mining.exchange': 'ring'}
  programs = [Program('coco_m3l', None, 8, fields)]
  ((_, one),) = compiled(programs, 8)
  shard = 4 * 8 * 2048
  kinds = {(x.kind, x.bytes): x.times for x in one.collectives}
  assert kinds['collective-permute', shard] == 7, (
    'the images pass each device once'
  )
  assert any(x.looped for x in one.collectives), 'texts are fetched in rounds'
  parts = bench.parts(one)
  assert parts['gradients'] == 4 * one.parameters
  assert parts['mining'] > 7 * shard


def test_a_program_that_does_not_compile_is_named():
  with pytest.raises(RuntimeError, match='no_such_config'):
    list(compiled([Program('no_such_config', None, 8, {})], 2))


def test_recursive_doubling_sends_everything_in_every_round():
  assert [bench.invariant_sent(10, n) for n in (1, 2, 64, 512)] == [
    0,
    40,
    240,
    360,
  ]


def test_the_tables_have_a_line_for_every_step():
  shared = [
    Collective('all-reduce', 40, source='jit(f)/transpose(jvp(N))/Conv_0'),
    Collective('all-reduce', 8, 4, source='jit(f)/jvp(N)/BatchNorm_0/sum'),
  ]
  looped = Collective('all-to-all', 80, looped=True, source='a/shard_map/b')
  some = Compiled(10, 12, [*shared, looped], shared, 1.0)
  found = {
    'text head, ring': {8: some, 64: some._replace(collectives=shared)},
    f'PreAct-ResNet18, global, {bench.PLAIN}': {8: some, 64: some},
  }
  lines = bench.byte_lines(found, (1, 8, 64))
  assert len(lines) == 4 and '| 3+, 2 |' in lines[2]
  assert '| 40 bytes | 40 bytes | 12 bytes | 0 | 80 bytes |' in lines[3]
  narrow = bench.narrow_lines(found, (1, 8, 64))
  assert '| 4 bytes | 48 bytes | 144 bytes | 288 bytes |' in narrow[2]
  assert narrow[3].endswith('|  |  |'), (
    'global BatchNorm is not device-count-invariant'
  )
  estimate = bench.estimate_lines(found, (1, 8, 64))
  assert len(estimate) == 3, 'steps without mixing are left out'


@pytest.mark.slow
def test_steps_on_one_device_are_those_of_the_roofline():
  assert 1e3 * bench.step_seconds('ResNet-50, ghost') == pytest.approx(39, 0.02)
  assert bench.step_seconds('text head, ring') == bench.HEAD_SECONDS
