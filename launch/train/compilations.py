"""Compilation counter: the programs that jax builds during a run."""

import jax

# jax records one event for each program that it traced and lowered, whether it
# was compiled or found in the compilation cache; the device waits either way.
_BUILT = '/jax/core/compile/backend_compile_duration'
_FROM_CACHE = '/jax/compilation_cache/cache_hits'


class CompilationCounter:
  """Counts the programs built since it was made, in any thread.

  Attributes:
    count: number of programs built.
    from_cache: number of those found in the compilation cache.
  """

  def __init__(self):
    self.count = self.from_cache = 0
    self._names: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(self._on_duration)
    jax.monitoring.register_event_listener(self._on_event)

  def close(self) -> None:
    """Stops counting."""
    jax.monitoring.unregister_event_duration_listener(self._on_duration)
    jax.monitoring.unregister_event_listener(self._on_event)

  def new_names(self) -> list[str]:
    """Returns the names of the programs built since the last call."""
    names, self._names = self._names, []
    return names

  def _on_duration(
    self, event: str, duration_secs: float, **kwargs: str | int
  ) -> None:
    del duration_secs
    if event == _BUILT:
      self.count += 1
      self._names.append(str(kwargs.get('fun_name', 'a function')))

  def _on_event(self, event: str, **kwargs: str | int) -> None:
    del kwargs
    self.from_cache += event == _FROM_CACHE
