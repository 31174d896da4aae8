"""The configs of this repository, where ml_collections is missing too."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any


def get_config(name: str, arg: str | None = None) -> Any:
  """The config that `configs/<name>.py` makes for `arg`."""
  if importlib.util.find_spec('ml_collections') is None:
    module = types.ModuleType('ml_collections')
    module.__dict__['ConfigDict'] = ConfigDict
    # find_spec asks for it if this is called again.
    module.__spec__ = importlib.util.spec_from_loader('ml_collections', None)
    sys.modules['ml_collections'] = module
  return importlib.import_module(f'configs.{name}').get_config(arg)


class ConfigDict:
  """What the configs use of `ml_collections.ConfigDict`; nothing is checked."""

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
    """The names of the fields."""
    return self.__dict__.keys()

  def items(self) -> Any:
    """Names and values."""
    return self.__dict__.items()

  def update(self, fields: Any = (), **more: Any) -> None:
    """Sets fields; blocks are merged."""
    for name, value in {**dict(fields), **more}.items():
      if name in self and hasattr(value, 'items'):
        self[name].update(value)
      else:
        self[name] = value

  def to_dict(self) -> dict[str, Any]:
    """The same as nested dicts."""
    return {
      name: value.to_dict() if isinstance(value, ConfigDict) else value
      for name, value in self.items()
    }

  def lock(self) -> 'ConfigDict':
    """Does nothing."""
    return self
