"""jaxmix: mixed-sample data augmentation for JAX, in pure functions.

`random_mix` mixes a batch and its labels; `mixup`, `cutmix`, `resizemix` and
`fmix` are its modes (`MODES` names them and `'identity'`). Each is a random
`draw_*`, which returns a small `Mix` for a key and a shape, followed by the
deterministic `apply` and `mix_labels`.
`saliency_mix`, `puzzle_mix` and `co_mixup` are guided by the saliency of the
images; a draw of Co-Mixup is applied by `take_blocks` and `block_labels`.
`draw_manifold_mixup` and `draw_patchup` mix hidden activations
(`apply_hidden`). `cutout` fills a square and does not mix. The only dependency
is jax.
"""

from jaxmix._src.cutmix import cutmix as cutmix
from jaxmix._src.cutmix import draw_cutmix as draw_cutmix
from jaxmix._src.cutout import cutout as cutout
from jaxmix._src.cutout import draw_cutout as draw_cutout
from jaxmix._src.cutout import fill_box as fill_box
from jaxmix._src.fmix import draw_fmix as draw_fmix
from jaxmix._src.fmix import fmix as fmix
from jaxmix._src.guided.co_mixup import block_labels as block_labels
from jaxmix._src.guided.co_mixup import co_mixup as co_mixup
from jaxmix._src.guided.co_mixup import draw_co_mixup as draw_co_mixup
from jaxmix._src.guided.co_mixup import take_blocks as take_blocks
from jaxmix._src.guided.puzzle_mix import draw_puzzle_mix as draw_puzzle_mix
from jaxmix._src.guided.puzzle_mix import puzzle_mix as puzzle_mix
from jaxmix._src.guided.saliency import gradient_saliency as gradient_saliency
from jaxmix._src.guided.saliency import spectral_residual as spectral_residual
from jaxmix._src.guided.saliency_mix import (
  draw_saliency_mix as draw_saliency_mix,
)
from jaxmix._src.guided.saliency_mix import saliency_mix as saliency_mix
from jaxmix._src.hidden_states.hidden_mix import HiddenMix as HiddenMix
from jaxmix._src.hidden_states.hidden_mix import apply_hidden as apply_hidden
from jaxmix._src.hidden_states.manifold_mixup import (
  draw_manifold_mixup as draw_manifold_mixup,
)
from jaxmix._src.hidden_states.patchup import draw_patchup as draw_patchup
from jaxmix._src.identity import draw_identity as draw_identity
from jaxmix._src.labels import mix_labels as mix_labels
from jaxmix._src.labels import mixed_cross_entropy as mixed_cross_entropy
from jaxmix._src.labels import (
  mixed_sigmoid_cross_entropy as mixed_sigmoid_cross_entropy,
)
from jaxmix._src.lengths import with_lengths as with_lengths
from jaxmix._src.mix import Mix as Mix
from jaxmix._src.mix import apply as apply
from jaxmix._src.mixup import draw_mixup as draw_mixup
from jaxmix._src.mixup import mixup as mixup
from jaxmix._src.pairing import draw_partner as draw_partner
from jaxmix._src.random_mix import MODES as MODES
from jaxmix._src.random_mix import draw_random_mix as draw_random_mix
from jaxmix._src.random_mix import random_mix as random_mix
from jaxmix._src.resizemix import draw_resizemix as draw_resizemix
from jaxmix._src.resizemix import resizemix as resizemix

__version__ = '0.1.0'
