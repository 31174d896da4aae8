"""Training steps compiled for any number of devices, without running them.

`python -m benchmarks.compiled.programs PROGRAMS` compiles a JSON list of
programs for all fake CPU devices of its process, and prints a line of JSON for
each program. There are no data and no parameters: the step is lowered from
shapes and shardings.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from benchmarks.compiled.hlo import Collective, collectives
from benchmarks.harness.rounds import ROOT
from benchmarks.harness.settings import get_config
from benchmarks.sides.retrieval_data import COCO_IMAGES, IMAGE_DIM, features
from jaxmix.classification import task as classification
from jaxmix.classification.datasets import splits
from jaxretrieval import task as retrieval
from jaxretrieval.training import text_head
from launch.mesh import chunk_sharded, make_mesh, replicated
from launch.train.assemble import assemble
from launch.train.feeds import Feed
from launch.train.schedule import StepSchedule

# These options skip machine code optimisation; the partitioner runs before it.
_CHEAP = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
}
_PARTITIONER = 'spmd-partitioning'


@dataclasses.dataclass(frozen=True)
class Program:
  """A training step to compile; JSON values only.

  Attributes:
    config: name of a file in `configs`.
    argument: argument of the config, after the colon on the command line.
    each: examples per device.
    fields: config fields to set, by their dotted names.
  """

  config: str
  argument: str | None
  each: int
  fields: dict[str, Any]


class Compiled(NamedTuple):
  """A compiled training step.

  Attributes:
    parameters: number of parameters.
    packed: floating-point numbers that `launch.train.invariant_step` sums in a
      step.
    collectives: collectives of the final program.
    partitioned: collectives as the partitioner emits them, where each array is
      summed separately and in its own dtype.
    seconds: time to compile.
  """

  parameters: int
  packed: int
  collectives: list[Collective]
  partitioned: list[Collective]
  seconds: float


def compiled(
  programs: Sequence[Program], devices: int
) -> Iterator[tuple[Program, Compiled]]:
  """Compiles programs for `devices` devices in another process.

  Raises:
    RuntimeError: a program does not compile; the reason is on stderr.
  """
  listed = json.dumps([dataclasses.asdict(program) for program in programs])
  process = subprocess.Popen(
    [sys.executable, '-m', 'benchmarks.compiled.programs', listed],
    cwd=ROOT,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
      # A program from the cache would skip the partitioner.
      'JAX_ENABLE_COMPILATION_CACHE': 'false',
      # Otherwise there is one thread per device.
      'NPROC': '4',
    },
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout is not None
  with process:
    for program in programs:
      line = process.stdout.readline()
      if not line:
        raise RuntimeError(
          f'{program} does not compile for {devices} devices; see stderr'
        )
      fields = json.loads(line)
      for name in ('collectives', 'partitioned'):
        fields[name] = [Collective(*x) for x in fields[name]]
      yield program, Compiled(**fields)


class Step(NamedTuple):
  """A training step that was traced for a mesh.

  Attributes:
    traced: what `jax.jit` traces.
    state: shapes of the training state.
    metrics: shapes of the metrics.
  """

  traced: Any
  state: Any
  metrics: dict[str, Any]


def compile_here(program: Program) -> Compiled:
  """Compiles a program for the devices of this process."""
  mesh = make_mesh()
  step = trace_step(program, mesh)
  begin = time.perf_counter()
  text, partitioned = _compile(step.traced.lower())
  return Compiled(
    parameters=sum(x.size for x in jax.tree.leaves(step.state.params)),
    packed=_floats((step.state.params, step.state.model_state))
    + len([x for x in step.metrics.values() if x.dtype == jnp.float32]),
    collectives=list(collectives(text, mesh.size)),
    partitioned=list(collectives(partitioned, mesh.size)),
    seconds=time.perf_counter() - begin,
  )


def trace_step(program: Program, mesh: Mesh) -> Step:
  """Traces the step of a program for the devices of a mesh."""
  config = get_config(program.config, program.argument)
  config.batch_size = mesh.size * program.each
  config.virtual_devices = mesh.size
  config.update_from_flattened_dict(program.fields)
  make = _retrieval if 'mining' in config else _classification
  task, examples = make(config)
  count = len(jax.tree.leaves(examples)[0])
  if resident := config.data.get('feed', 'resident') == 'resident':
    rows = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)
  else:
    rows = {
      name: jax.ShapeDtypeStruct((config.batch_size, *x.shape[1:]), x.dtype)
      for name, x in examples.items()
    }
  resident_data = _abstract(examples, replicated(mesh)) if resident else {}
  chunk = _abstract(
    jax.tree.map(lambda x: x.update(shape=(1, *x.shape)), rows),
    chunk_sharded(mesh),
  )

  def select(data, item):
    return {name: x[item] for name, x in data.items()} if resident else item

  schedule = StepSchedule(config.epochs, count, config.batch_size, 1)
  feed = Feed(schedule, resident_data, select, lambda step: iter([chunk]))
  # A loop of one step costs nothing; without it there is no single program.
  training = assemble(task, config, feed, mesh, looped=True)
  state: Any = training.abstract_state()
  steps: Any = training.train_steps
  traced = steps.trace(state, resident_data, chunk, training.key)
  metrics = dict(traced.out_info[1])
  del metrics['learning_rate']
  return Step(traced, state, metrics)


def _classification(config: Any) -> tuple[Any, Any]:
  """Returns the task, and the shapes of the training set."""
  info = splits.dataset_spec(config.data)
  shapes = {
    'image': jax.ShapeDtypeStruct(
      (info.train_examples, *info.image_shape), jnp.uint8
    ),
    'label': jax.ShapeDtypeStruct((info.train_examples,), jnp.int32),
  }
  return classification, shapes


def _retrieval(config: Any) -> tuple[Any, Any]:
  """Returns the task, and the shapes of the training set."""
  del config
  arrays = features(256)

  def init(config, key):
    images, texts = arrays['image'], arrays['text'][:, 0]
    constants = text_head.scale_constants(config.model, images, texts)
    params = text_head.init(config.model, key, constants, images, texts)
    return params, jax.tree.map(jnp.asarray, constants)

  shapes = {
    name: jax.ShapeDtypeStruct((COCO_IMAGES, *x.shape[1:]), x.dtype)
    for name, x in arrays.items()
  }
  head = types.SimpleNamespace(
    init=init,
    make_loss=lambda config, mesh: retrieval.make_batch_loss(
      config, IMAGE_DIM, mesh
    ),
  )
  return head, shapes


def _abstract(shapes: Any, sharding: NamedSharding) -> Any:
  return jax.tree.map(lambda x: x.update(sharding=sharding), shapes)


def _floats(shapes: Any) -> int:
  leaves = jax.tree.leaves(shapes)
  return sum(x.size for x in leaves if jnp.issubdtype(x.dtype, jnp.floating))


def _compile(lowered: Any) -> tuple[str, str]:
  """Returns the text of the final program and of the partitioned one."""
  with tempfile.TemporaryDirectory() as folder:
    program = lowered.compile(
      _CHEAP | {'xla_dump_to': folder, 'xla_dump_hlo_pass_re': _PARTITIONER}
    )
    # For one device there is nothing to partition.
    dumped = pathlib.Path(folder).glob(f'*.after_{_PARTITIONER}.*')
    return program.as_text(), ''.join(path.read_text() for path in dumped)


def main() -> None:
  """Compiles the programs in the argument."""
  for fields in json.loads(sys.argv[1]):
    found = compile_here(Program(**fields))
    print(json.dumps(found._asdict()), flush=True)


if __name__ == '__main__':
  main()
