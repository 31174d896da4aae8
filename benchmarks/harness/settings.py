"""Configs of this repository, also where ml_collections is not installed."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any


def get_config(name: str, arg: str | None = None) -> Any:
  """Returns the config of `configs/<name>.py` for the argument `arg`."""
  if importlib.util.find_spec('ml_collections') is None:
    module = types.ModuleType('ml_collections')
    module.__dict__['ConfigDict'] = ConfigDict
    # find_spec needs it in the next call.
    module.__spec__ = importlib.util.spec_from_loader('ml_collections', None)
    sys.modules['ml_collections'] = module
  return importlib.import_module(f'configs.{name}').get_config(arg)


class ConfigDict:
  """The part of `ml_collections.ConfigDict` that the configs use, unchecked."""

  def __init__(self, fields: Mapping[str, Any] | None = None):
    self.update(fields or {})

  def __setattr__(self, name: str, value: Any) -> None:
    wrap = isinstance(value, Mapping)
    self.__dict__[name] = ConfigDict(value) if wrap else value

  def __getattr__(self, name: str) -> Any:
    raise AttributeError(f'the config has no {name}')

  __setitem__ = __setattr__

  def __getitem__(self, name: str) -> Any:
    return self.__dict__[name]

  def __delitem__(self, name: str) -> None:
    del self.__dict__[name]

  def __contains__(self, name: str) -> bool:
    return name in self.__dict__

  def __iter__(self) -> Iterator[str]:
    return iter(self.__dict__)

  def keys(self) -> Any:
    """Returns the names of the fields."""
    return self.__dict__.keys()

  def items(self) -> Any:
    """Returns names and values."""
    return self.__dict__.items()

  def update(self, fields: Any = (), **more: Any) -> None:
    """Sets fields; nested blocks are merged."""
    for name, value in {**dict(fields), **more}.items():
      if name in self and hasattr(value, 'items'):
        self[name].update(value)
      else:
        self[name] = value

  def to_dict(self) -> dict[str, Any]:
    """Returns the config as nested dicts."""
    return {
      name: value.to_dict() if isinstance(value, ConfigDict) else value
      for name, value in self.items()
    }

  def lock(self) -> 'ConfigDict':
    """Returns the config itself; this stand-in has no lock."""
    return self
