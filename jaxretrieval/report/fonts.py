"""Fonts for captions in any script: what can be drawn here, and what cannot.

matplotlib's own font has Latin, Greek and Cyrillic letters, no Chinese,
Japanese or Korean. It draws what a font lacks as empty boxes, which look like a
fault of the captions: so a text that no font here can draw is not drawn.
"""

import functools
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable

# Draws a box with a code for every character there is.
_NO_LETTERS = 'Last Resort'


def families(
  texts: Iterable[str], font: str | os.PathLike[str] | None = None
) -> list[str]:
  """Finds installed fonts that can draw texts together; warns if none can.

  Args:
    texts: that will be drawn.
    font: a font file to use beside the installed ones.

  Returns:
    Families for matplotlib's `fontfamily`, in order; it takes each character
    from the first that has it.

  Raises:
    FileNotFoundError: `font` is not there.
  """
  from matplotlib import font_manager

  chosen = ['DejaVu Sans']
  if font is not None:
    if not os.path.isfile(font):
      raise FileNotFoundError(f'{font}: no such font file')
    font_manager.fontManager.addfont(font)
    name = font_manager.FontProperties(fname=os.fspath(font)).get_name()
    chosen.append(name)
  lacking = missing(''.join(texts), chosen)
  for entry in font_manager.fontManager.ttflist if lacking else ():
    if entry.name.startswith(_NO_LETTERS) or entry.name in chosen:
      continue
    if lacking & _characters(entry.fname):
      chosen.append(entry.name)
      lacking = missing(''.join(lacking), chosen)
  if lacking:
    some = ''.join(sorted(lacking)[:8])
    print(
      f'no installed font has {len(lacking)} characters of the captions, such '
      f'as {some}; install one (Debian: fonts-noto-cjk) or give --font FILE',
      file=sys.stderr,
    )
  return chosen


def missing(text: str, chosen: Iterable[str]) -> set[str]:
  """The characters of a text that none of the families has."""
  from matplotlib import font_manager

  lacking = {letter for letter in text if not letter.isspace()}
  for name in chosen:
    path = font_manager.findfont(name, fallback_to_default=False)
    lacking -= _characters(path)
  return lacking


def drawable(text: str, chosen: Iterable[str]) -> str:
  r"""The text, or what to write in its place if it cannot be drawn.

  >>> drawable('ein Hund', ['DejaVu Sans'])
  'ein Hund'
  >>> drawable('\u72ac', ['DejaVu Sans'])
  '(no font here has the letters of this caption)'
  """
  if missing(text, chosen):
    return '(no font here has the letters of this caption)'
  return text


def wrap(text: str, width: int, lines: int) -> str:
  r"""Breaks a text into at most so many lines.

  Args:
    text: one caption.
    width: letters in a line; those of Chinese, Japanese and Korean are two.
    lines: more of them are cut, with an ellipsis.

  >>> wrap('a man in a red shirt', 9, 2)
  'a man in\na red …'
  """
  wide = sum(unicodedata.east_asian_width(letter) in 'WF' for letter in text)
  width = round(width * len(text) / (len(text) + wide)) if text else width
  return '\n'.join(
    textwrap.wrap(text, width, max_lines=lines, placeholder=' …')
  )


@functools.lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[str]:
  from matplotlib import ft2font

  try:
    return frozenset(map(chr, ft2font.FT2Font(path).get_charmap()))
  except RuntimeError:  # A file that FreeType cannot read.
    return frozenset()
