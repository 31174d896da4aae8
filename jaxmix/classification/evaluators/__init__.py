"""Evaluators of a classifier, by their names in `config.evals`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxmix.classification.evaluators import clean, corruption, fgsm, occlusion


class Evaluator(NamedTuple):
  """An evaluator: its `make` function, and the schema of its options.

  Attributes:
    make: `make(predict, examples, *, batch_size, mesh, **options)` returns
      `evaluate(params, model_state)`, see `clean.make`.
    schema: the properties of its block beside `batch_size`.
  """

  make: Callable[..., clean.Evaluate]
  schema: Mapping[str, Any] = {}


_FRACTION = {'type': 'number', 'minimum': 0, 'maximum': 1}

EVALUATORS = {
  'clean': Evaluator(clean.make),
  'fgsm': Evaluator(fgsm.make, {'epsilon': _FRACTION}),
  'corruption': Evaluator(corruption.make, {'source': {'type': 'string'}}),
  'occlusion': Evaluator(occlusion.make, {'side': _FRACTION}),
}
