"""Counts the programs that jax builds while a run goes on."""

import jax

# One event for each program, whether it was compiled or found in the cache of
# compiled programs: jax traced and lowered it either way, and the device waits.
_BUILT = '/jax/core/compile/backend_compile_duration'
_FROM_CACHE = '/jax/compilation_cache/cache_hits'


class CompilationCounter:
  """What was built since this was made, in any thread.

  Attributes:
    count: programs built.
    from_cache: how many of them the cache of compiled programs had.
  """

  def __init__(self):
    self.count = self.from_cache = 0
    self._names: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(self._timed)
    jax.monitoring.register_event_listener(self._happened)

  def close(self) -> None:
    """Stops counting."""
    jax.monitoring.unregister_event_duration_listener(self._timed)
    jax.monitoring.unregister_event_listener(self._happened)

  def names(self) -> list[str]:
    """Returns the functions built since the last time this was asked."""
    names, self._names = self._names, []
    return names

  def _timed(
    self, event: str, duration_secs: float, **kwargs: str | int
  ) -> None:
    del duration_secs
    if event == _BUILT:
      self.count += 1
      self._names.append(str(kwargs.get('fun_name', 'a function')))

  def _happened(self, event: str, **kwargs: str | int) -> None:
    del kwargs
    self.from_cache += event == _FROM_CACHE
