"""The training loop."""

import pathlib
from collections.abc import Mapping

import jax

from launch import env
from launch.config import Config, check_config, check_workdir
from launch.run import open_run
from launch.signals import stop_requests
from launch.state import TrainState
from launch.task import Evaluate, Task
from launch.timing import show_metrics
from launch.writers import final_metrics


def fit(task: Task, config: Config, workdir: pathlib.Path) -> dict[str, float]:
  """Trains to the end of the run, from wherever `workdir` has got to.

  Between two calls of the device things happen in this order. If 1 or 3 is
  due, the metrics of the last call are read before it: a run that diverged is
  not saved.

    1. Save a checkpoint. First, so that an evaluator that fails costs no
       training, and the row that ends a run is written when its end is safe.
    2. Leave, if SIGTERM or SIGINT came.
    3. Evaluate the state just saved.
    4. Draw the next K batches and send the device off with them.
    5. Read the metrics of the call before, while the device works.

  Args:
    task: the four functions of `launch.task.Task`.
    config: the config; `check_config` says what is read here.
    workdir: the folder of the run, created if need be. A run that has ended
      is not touched.

  Returns:
    The metrics of the last evaluation, by `evaluator/metric`.

  Raises:
    ValueError: a config, data or a workdir that cannot be trained.
    FloatingPointError: the loss is not finite; names the step.
    SystemExit: a signal came and the state is saved; the code is 128 + signal.
  """
  check_config(config)
  check_workdir(config, workdir)
  if (before := final_metrics(workdir)) is not None:
    print(f'{workdir}: finished before')
    return before
  with stop_requests() as stop, open_run(task, config, workdir) as run:
    plan, log, checkpoints = run.plan, run.log, run.checkpoints
    step, state = run.step, run.state
    blocks = run.feed.blocks(step)
    # A hidden copy between host and device is an error, not a slow run.
    with jax.transfer_guard('disallow'):
      while True:
        ended, signal = step == plan.total_steps, stop()
        if ended or signal or plan.due_epochs(step, config.checkpoint_every):
          log.catch_up()
          if checkpoints.latest_step() != step:
            checkpoints.save(step, state)
        if signal:
          checkpoints.wait()
          run.progress.note(
            f'stopped by {signal.name} at step {step} of {plan.total_steps}; '
            f'to go on: {env.command()}'
          )
          raise SystemExit(128 + signal)
        if ended or plan.due_epochs(step, config.eval_every):
          log.catch_up()
          results = _evaluate(run.evaluators, state)
          if ended:
            checkpoints.wait()
          run.writer.write(step, plan.epoch(step), results, final=ended)
          run.progress.note(f'step {step}  {show_metrics(results)}')
          if ended:
            return results
        count, block = plan.call_size(step), next(blocks)
        # To compile, constants are read back from the device.
        guard = 'allow' if log.calling(count) else 'disallow'
        with jax.transfer_guard(guard):
          state, metrics = run.train_steps(state, run.feed.data, block, run.key)
        step += count
        log.called(step, metrics)


def _evaluate(
  evaluators: Mapping[str, Evaluate], state: TrainState
) -> dict[str, float]:
  with jax.transfer_guard('allow'):
    return {
      f'{name}/{metric}': float(value)
      for name, evaluate in evaluators.items()
      for metric, value in evaluate(state.params, state.model_state).items()
    }
