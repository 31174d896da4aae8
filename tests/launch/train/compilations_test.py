import contextlib
import os

import jax
import pytest

from launch.train.compilations import CompilationCounter


@pytest.fixture
def compilations():
  with contextlib.closing(CompilationCounter()) as compilations:
    yield compilations


def test_each_shape_is_a_program_and_is_named(compilations):
  def add_one(x):
    return x + 1

  add_one = jax.jit(add_one)
  xs = [jax.device_put(x) for x in ((1.0, 2.0), 3.0, (4.0, 5.0))]
  for x in xs:
    jax.tree.map(add_one, x)
  assert compilations.count == 1 and compilations.new_names() == [
    'jit(add_one)'
  ]
  assert compilations.new_names() == [], 'returned twice'
  add_one(jax.device_put([1, 2, 3])[0])
  assert compilations.count == 2, 'another dtype is another program'


def test_programs_of_the_cache_are_counted_too(compilations, tmp_path):
  from jax.experimental.compilation_cache import compilation_cache

  before = os.environ['JAX_COMPILATION_CACHE_DIR']
  reset = compilation_cache.reset_cache
  try:
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    reset()
    for _ in range(2):
      jax.jit(lambda x: x * 3 - 7)(jax.device_put(2.0))
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
    reset()
  assert (compilations.count, compilations.from_cache) == (2, 1)


def test_what_is_closed_counts_no_more():
  compilations = CompilationCounter()
  compilations.close()
  jax.jit(lambda x: x * 5)(1.0)
  assert compilations.count == 0
