"""Config of the tiny task on CIFAR-100, or on ImageNet (`:imagenet`)."""

from typing import Any

from configs import quickstart
from configs.common import parse_arg
from tests.launch import toy_config


def get_config(arg=None) -> Any:
  choice = parse_arg(arg, imagenet=False)
  config = toy_config.get_config()
  config.task = 'tests.faults.tiny_task'
  config.batch_size = 4
  config.data = {
    'name': 'imagenet' if choice.imagenet else 'cifar100',
    'source': '',
    'dir': '',
    'download': False,
    'feed': 'streamed',
    'train_examples': 0,
    'test_examples': 0,
    'workers': 2,
  }
  # The tiny task uses only `data`, but every field is checked.
  images = quickstart.get_config()
  for name in (
    'model',
    'augment',
    'mix',
    'evals',
    'label_smoothing',
    'batch_norm',
  ):
    config[name] = images[name]
  return config
