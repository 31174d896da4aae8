"""How often a run of either recipe does what, and how many runs there are."""

RHYTHM = {
  'steps_per_dispatch': 32,
  'log_every': 96,
  'eval_every': 5.0,
  'checkpoint_every': 5.0,
  'keep_checkpoints': 2,
  'max_save_failures': 3,
  'max_skipped_steps': 0,
  'tensorboard': True,
}


def seeds(arg: str) -> range:
  """The seeds of a row of a sweep: three, and one if ARG has `smoke`."""
  return range(1 if 'smoke' in arg.split(',') else 3)
