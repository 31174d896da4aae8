"""Evaluations of a saved checkpoint: `launch.evaluate`."""

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
from launch.train.evaluation import Results, begin
from launch.train.progress import show_metrics
from launch.train.resume import check_resume
from launch.workdir import config_file
from launch.workdir.evaluations import add_evaluations, by_evaluator


def evaluate(argv: Sequence[str]) -> None:
  """Evaluates the newest checkpoint of the run that the flags name."""
  cli.refuse_arguments(argv)
  if cluster.find(None, None, None, 1):
    raise ValueError(
      'launch.evaluate is one process: start it once (srun -n 1), not on every '
      'task of a job'
    )
  config, workdir = cli.CONFIG.value, cli.open_workdir()
  check_config(config)
  results = evaluate_saved(load_task(config.task), config, workdir)
  log_line(show_metrics(results), sys.stdout)


def evaluate_saved(
  task: Task, config: Config, workdir: pathlib.Path
) -> Results:
  """Evaluates the newest checkpoint of a run, and adds to its evaluations.

  Args:
    task: as for `launch.train.loop.fit`.
    config: that of the run, with whatever `evals`.
    workdir: the folder of the run.

  Returns:
    The metrics, by `evaluator/metric`.

  Raises:
    ValueError: another config, a damaged checkpoint, or evaluators that do not
      fit.
    OSError: there is no run, or no checkpoint, or data that cannot be read.
  """
  check_config(config, getattr(task, 'SCHEMA', None))
  if not (workdir / 'config.json').exists():
    raise FileNotFoundError(f'{workdir} holds no run: it has no config.json')
  there, here = config_file.read(workdir / 'config.json'), config.to_dict()
  # Rows of the training are not touched, so these may be others.
  for fields in (there, here):
    fields.pop('evals', None)
  check_resume(there, ConfigDict(here))
  with classify_errors(ExitCode.CHECKPOINT):
    step, about, saved = read_newest(workdir / 'checkpoints')
  mesh = make_mesh()
  with classify_errors(ExitCode.DATA):
    evaluators = task.make_evaluators(config, mesh)
  state: Any = jax.device_put(
    {name: saved[name] for name in ('params', 'model_state')}, replicated(mesh)
  )
  log_line(f'{workdir}: step {step}')
  results = begin(evaluators, state['params'], state['model_state'])()
  run = about['belongs_to']
  epoch = step * run['batch_size'] / run['examples']
  evals = config.to_dict().get('evals', {})
  add_evaluations(workdir, by_evaluator(step, epoch, results, evals))
  return results
