"""How often a run of either recipe does what."""

RHYTHM = {
  'steps_per_call': 32,
  'log_every': 96,
  'eval_every': 5.0,
  'checkpoint_every': 5.0,
  'keep_checkpoints': 2,
  'max_save_failures': 3,
  'max_skipped_steps': 0,
  'tensorboard': True,
}
