"""Arguments, mixing methods and retrieval losses shared by the configs."""

from configs.common.arg import parse_arg as parse_arg
from configs.common.arg import seeds as seeds
from configs.common.mix_methods import METHODS as METHODS
from configs.common.mix_methods import mix_options as mix_options
from configs.common.retrieval_losses import LANGUAGES as LANGUAGES
from configs.common.retrieval_losses import LOSSES as LOSSES
from configs.common.retrieval_losses import MINERS as MINERS
from configs.common.retrieval_losses import loss_options as loss_options
