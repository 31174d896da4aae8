"""Config of the toy task: `python -m launch.main --config=<this> ...`."""

from typing import Any

from ml_collections import ConfigDict

from configs.common import parse_arg


def get_config(arg=None) -> Any:
  arg = parse_arg(arg, adam=False, streamed=False)
  optimizer = {
    'name': 'sgd',
    'lr': 0.1,
    'schedule': 'cosine',
    'warmup_epochs': 1.0,
    'weight_decay': 1e-4,
    'momentum': 0.9,
    'nesterov': True,
  }
  if arg.adam:
    optimizer |= {'name': 'adam', 'lr': 0.01, 'b1': 0.9, 'b2': 0.999}
    del optimizer['momentum'], optimizer['nesterov']
  return ConfigDict(
    {
      'task': 'tests.launch.toy_task',
      'seed': 0,
      'epochs': 5.0,
      'batch_size': 16,
      'virtual_devices': 1,
      'device_count_invariant': False,
      'steps_per_dispatch': 4,
      'log_every': 5,
      'eval_every': 1.0,
      'checkpoint_every': 2.0,
      'keep_checkpoints': 2,
      'max_save_failures': 3,
      'max_skipped_steps': 0,
      'tensorboard': False,
      'optimizer': optimizer,
      'data': {'resident': not arg.streamed, 'dir': ''},
      'diverge_at': 0,
      'slow_evaluation': 0.0,
    }
  )


def make_config(arg=None, **fields) -> Any:
  """The toy config with other values, locked."""
  config = get_config(arg)
  config.update_from_flattened_dict(fields)
  return config.lock()


def sweep(add, arg):
  del arg
  for seed in (0, 1):
    add(seed=seed, **{'optimizer.lr': 0.3})
  add(arg='adam')
