"""Compilers of TPUs and GPUs, on a machine that has neither.

They say what a program will be on a chip: its operations, layouts, bytes and
memory, and for a TPU an estimate of the cycles. Nothing is run.
"""

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# libtpu asks the cloud which machine it is on, unless it is told.
TPU_ENV = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}
# The smallest topology of each, of which one chip is used.
TPUS = {
  'v4': 'v4:2x2x1',
  'v5e': 'v5e:2x2',
  'v5p': 'v5p:2x2x1',
  'v6e': 'v6e:2x2',
}

# The limits of an H100 (SXM, 80 GB), which the compiler of GPUs asks for.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 8 }
"""
GPUS = {'h100': _H100}
CHIPS = (*TPUS, *GPUS)


class Compiled(NamedTuple):
  """A program that was compiled for a chip.

  Attributes:
    text: the final program.
    bytes: bytes that its operations read and write, by XLA's count; a
      conditional counts as its dearest branch. None on a GPU.
    temporary: bytes of memory for temporary arrays.
    seconds: time to compile.
  """

  text: str
  bytes: float | None
  temporary: int
  seconds: float


def missing(chip: str) -> str | None:
  """Returns what to install to compile for a chip; None if nothing is missing.

  >>> missing('v5e') in (None, "libtpu: pip install 'jax[tpu]'")
  True
  """
  if chip in TPUS:
    found = importlib.util.find_spec('libtpu')
    return None if found else "libtpu: pip install 'jax[tpu]'"
  plugins = ('jax_cuda12_plugin', 'jax_cuda13_plugin')
  found = any(importlib.util.find_spec(name) for name in plugins)
  return None if found else "the CUDA plugin: pip install 'jax[cuda12]'"


def mesh_of(chip: str) -> Mesh:
  """Returns a mesh of one chip, on which nothing can be run.

  Raises:
    ModuleNotFoundError: its compiler is not installed.
  """
  if reason := missing(chip):
    raise ModuleNotFoundError(f'compiling for {chip} needs {reason}')
  if chip in TPUS:
    os.environ |= TPU_ENV
    topology = topologies.get_topology_desc(
      platform='tpu', topology_name=TPUS[chip]
    )
  else:
    topology = topologies.get_topology_desc(
      platform='cuda', topology='1x1x1', target_config=GPUS[chip]
    )
  return Mesh(np.array(topology.devices[:1]), ('data',), (AxisType.Auto,))


def compile_for(
  chip: str, function: Callable[..., Any], *arguments: jax.ShapeDtypeStruct
) -> Compiled:
  """Compiles a function of arrays for one chip."""
  sharding = NamedSharding(mesh_of(chip), PartitionSpec())
  placed = [x.update(sharding=sharding) for x in arguments]
  return compile_traced(chip, jax.jit(function).trace(*placed))


def compile_traced(chip: str, traced: Any) -> Compiled:
  """Compiles `jax.jit(...).trace(...)`, whose shardings are of the chip."""
  begin = time.perf_counter()
  platform = 'tpu' if chip in TPUS else 'cuda'
  # There is nothing to time kernels on.
  options = {} if chip in TPUS else {'xla_gpu_autotune_level': 0}
  lowered = traced.lower(lowering_platforms=(platform,))
  program = lowered.compile(options)
  seconds = time.perf_counter() - begin
  costs = program.cost_analysis() or {}
  return Compiled(
    program.as_text(),
    costs.get('bytes accessed'),
    program.memory_analysis().temp_size_in_bytes,
    seconds,
  )
