"""Config of `numerics_task`."""

from typing import Any

from tests.launch import toy_config


def get_config(arg=None) -> Any:
  config = toy_config.get_config(arg)
  config.task = 'tests.faults.numerics_task'
  config.spoil, config.spoil_at = 'nothing', 0
  return config
