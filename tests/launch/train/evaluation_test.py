import jax
import jax.numpy as jnp
import pytest

from launch.train.evaluation import queue_evaluation


def test_results_are_read_later_or_are_there_at_once():
  events = []

  def later(params, model_state):
    events.append('queued')
    total = params + model_state

    def read():
      events.append('read')
      return {'sum': float(total)}

    return read

  evaluators = {'later': later, 'now': lambda params, _: {'params': params}}
  with jax.transfer_guard('disallow'):
    read = queue_evaluation(
      evaluators, jax.device_put(1.0), jax.device_put(2.0)
    )
    assert events == ['queued']
    results = read()
  assert events == ['queued', 'read']
  assert results == {'later/sum': 3.0, 'now/params': 1.0}
  assert all(type(value) is float for value in results.values())


@pytest.mark.parametrize('when', ['queued', 'read'])
def test_an_error_is_raised_when_the_results_are_read(when):
  def evaluate(params, model_state):
    def read():
      raise KeyError(when)

    return read() if when == 'queued' else read

  read = queue_evaluation({'test': evaluate}, jnp.zeros(()), {})
  with pytest.raises(KeyError, match=when):
    read()
