"""Checkpoint evaluation: runs the evaluators on the newest checkpoint."""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from launch import cli
from launch.checkpoints.storage import read_newest
from launch.config import Config, check_config
from launch.mesh import make_mesh, replicated
from launch.processes import cluster
from launch.shell.console import log_line
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.task import Task, load_task
from launch.train.evaluation import Results, queue_evaluation
from launch.train.progress import show_metrics
from launch.workdir import config_file
from launch.workdir.evaluations import add_evaluations, by_evaluator
from launch.workdir.identity import check_resume


def evaluate(argv: Sequence[str]) -> None:
  """Evaluates the newest checkpoint of the run that the flags name."""
  cli.refuse_arguments(argv)
  if cluster.process_info(None, None, None, 1):
    raise ValueError(
      'launch.evaluate runs in one process: start it once (srun -n 1), not in '
      'every task of a job'
    )
  config, workdir = cli.CONFIG.value, cli.open_workdir()
  check_config(config)
  results = evaluate_saved(load_task(config.task), config, workdir)
  log_line(show_metrics(results), sys.stdout)


def evaluate_saved(
  task: Task, config: Config, workdir: pathlib.Path
) -> Results:
  """Evaluates the newest checkpoint of a run, and records the results.

  Args:
    task: as for `launch.train.loop.fit`.
    config: the config of the run; `evals` may differ.
    workdir: the folder of the run.

  Returns:
    The metrics, by `evaluator/metric`.

  Raises:
    ValueError: the config is that of another run, the checkpoint is damaged, or
      the evaluators do not match it.
    OSError: there is no run or no checkpoint, or the data cannot be read.
  """
  check_config(config, getattr(task, 'SCHEMA', None))
  if not (workdir / 'config.json').exists():
    with classify_errors(ExitCode.CHECKPOINT):
      raise FileNotFoundError(f'{workdir} has no run: config.json is missing')
  old, new = config_file.read(workdir / 'config.json'), config.to_dict()
  # The metrics of training are not changed, so `evals` may differ.
  for fields in (old, new):
    fields.pop('evals', None)
  check_resume(old, ConfigDict(new))
  with classify_errors(ExitCode.CHECKPOINT):
    step, metadata, saved = read_newest(workdir / 'checkpoints')
  mesh = make_mesh()
  with classify_errors(ExitCode.DATA):
    evaluators = task.make_evaluators(config, mesh)
  state: Any = jax.device_put(
    {name: saved[name] for name in ('params', 'model_state')}, replicated(mesh)
  )
  log_line(f'{workdir}: step {step}')
  results = queue_evaluation(
    evaluators, state['params'], state['model_state']
  )()
  run = metadata['belongs_to']
  epoch = step * run['batch_size'] / run['examples']
  evals = config.to_dict().get('evals', {})
  add_evaluations(workdir, by_evaluator(step, epoch, results, evals))
  return results
