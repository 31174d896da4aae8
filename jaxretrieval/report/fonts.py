"""Fonts for captions in any script.

The default font of matplotlib has Latin, Greek and Cyrillic letters, but no
Chinese, Japanese or Korean ones. matplotlib draws missing letters as empty
boxes, which look like damaged captions; such a caption is replaced instead.
"""

import functools
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable

# A font that draws a placeholder box for every character.
_PLACEHOLDER_FONT = 'Last Resort'


def families(
  texts: Iterable[str], font: str | os.PathLike[str] | None = None
) -> list[str]:
  """Returns font families that cover all texts; warns about missing letters.

  Args:
    texts: texts to draw.
    font: a font file to use in addition to the installed ones.

  Returns:
    Families for `fontfamily` of matplotlib, which draws each character with the
    first family that has it.

  Raises:
    FileNotFoundError: `font` is missing.
  """
  from matplotlib import font_manager

  chosen = ['DejaVu Sans']
  if font is not None:
    if not os.path.isfile(font):
      raise FileNotFoundError(f'font file {font} is missing')
    font_manager.fontManager.addfont(font)
    name = font_manager.FontProperties(fname=os.fspath(font)).get_name()
    chosen.append(name)
  lacking = missing(''.join(texts), chosen)
  for entry in font_manager.fontManager.ttflist if lacking else ():
    if entry.name.startswith(_PLACEHOLDER_FONT) or entry.name in chosen:
      continue
    if lacking & _characters(entry.fname):
      chosen.append(entry.name)
      lacking = missing(''.join(lacking), chosen)
  if lacking:
    examples = ''.join(sorted(lacking)[:8])
    print(
      f'{len(lacking)} characters of the captions, such as {examples}, are in '
      'no installed font: install one (Debian: fonts-noto-cjk), or give --font '
      'FILE',
      file=sys.stderr,
    )
  return chosen


def missing(text: str, chosen: Iterable[str]) -> set[str]:
  """Returns the characters of a text that none of the families has."""
  from matplotlib import font_manager

  lacking = {letter for letter in text if not letter.isspace()}
  for name in chosen:
    path = font_manager.findfont(name, fallback_to_default=False)
    lacking -= _characters(path)
  return lacking


def drawable(text: str, chosen: Iterable[str]) -> str:
  r"""Returns the text, or a replacement if it cannot be drawn.

  >>> drawable('ein Hund', ['DejaVu Sans'])
  'ein Hund'
  >>> drawable('\u72ac', ['DejaVu Sans'])
  '(no installed font has the letters of this caption)'
  """
  if missing(text, chosen):
    return '(no installed font has the letters of this caption)'
  return text


def wrap(text: str, width: int, lines: int) -> str:
  r"""Wraps a text.

  Args:
    text: a caption.
    width: letters per line; Chinese, Japanese and Korean letters count twice.
    lines: maximum number of lines; a longer text ends with an ellipsis.

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
  except RuntimeError:  # FreeType cannot read the file.
    return frozenset()
