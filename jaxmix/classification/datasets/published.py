"""Data sets as their publishers give them, by the module that reads each.

Such a module has

* `LAYOUTS`: by name, what is known of a data set before it is read;
* `read_source(layout, source)`: the arrays of each split of an archive or a
  folder, checked, and the sha256 of each file by its name;
* `source_sha256(layout, source)`: those sums alone.

A layout has, beside what its own module wants to know,

* `name`, `url` of the publisher's archive, and its `checksum` as published,
  `'md5:...'` or `'sha256:...'`;
* `variable`: environment variable that may hold the path of the source;
* `store`: the folder that prepared sets of this kind go to, `'jaxmix_...'`;
* `feature`: what an example is beside its label, `'image'` or `'audio'`, and
  the `shape` and `dtype` of that;
* `classes`: labels are 0..classes-1, and `examples(split)`, how many there are;
* `per_class`: split to the examples of each class, if tfds too has a set of
  this name.
"""

import types
from typing import Any

from jaxmix.classification.datasets import (
  cifar,
  fsdd,
  speech_commands,
  tiny_imagenet,
)

READERS: dict[str, types.ModuleType] = {
  'cifar10': cifar,
  'cifar100': cifar,
  'fsdd': fsdd,
  'fsdd_speakers': fsdd,
  'speech_commands_v1': speech_commands,
  'speech_commands_v2': speech_commands,
  'tiny_imagenet': tiny_imagenet,
}


def layout(name: str) -> Any:
  """The layout of a data set by its name."""
  return READERS[name].LAYOUTS[name]
