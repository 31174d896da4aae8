"""What the config files share: their argument, two recipes, and seeds."""

from configs.common.arg import parse_arg as parse_arg
from configs.common.mix_methods import METHODS as METHODS
from configs.common.mix_methods import (
  classification as classification,
)
from configs.common.mix_methods import make_smoke as make_smoke
from configs.common.mix_methods import mix_options as mix_options
from configs.common.retrieval_recipe import LANGUAGES as LANGUAGES
from configs.common.retrieval_recipe import LOSSES as LOSSES
from configs.common.retrieval_recipe import MINERS as MINERS
from configs.common.retrieval_recipe import follow_paper as follow_paper
from configs.common.retrieval_recipe import loss_options as loss_options
from configs.common.retrieval_recipe import retrieval as retrieval
from configs.common.rhythm import seeds as seeds
