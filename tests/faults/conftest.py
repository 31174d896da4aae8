"""One run without faults, to which all others are compared."""

import pytest

from tests.faults import trainer

# 125 steps. Nearly every call is followed by a save and some by an evaluation
# that takes its time, so that a fault at any moment meets something.
FIELDS = {
  'epochs': 20.0,
  'log_every': 1,
  'eval_every': 4.0,
  'checkpoint_every': 0.6,
  'slow_evaluation': 0.2,
}


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
  """The run of `FIELDS` from beginning to end."""
  workdir = tmp_path_factory.mktemp('whole')
  done = trainer.train(workdir, FIELDS)
  assert done.code == 0, done.err
  return workdir
