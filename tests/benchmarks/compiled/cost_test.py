"""Tests of the costs that are read from the text of a program."""

import pytest

from benchmarks.compiled import cost

TEXT = """\
HloModule jit_f

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %a)
}

%fused (p: u8[4,4]) -> f32[4,4] {
  %p = u8[4,4]{1,0} parameter(0)
  ROOT %wide = f32[4,4]{1,0} convert(%p)
}

%cheap (p: u8[4,4]) -> u8[4,4] {
  %p = u8[4,4]{1,0} parameter(0)
  ROOT %c = u8[4,4]{1,0} copy(%p), backend_config={"estimated_cycles":"10"}
}

%dear (p: u8[4,4]) -> u8[4,4] {
  %p = u8[4,4]{1,0} parameter(0)
  %one = u8[4,4]{1,0} copy(%p), backend_config={"estimated_cycles":"70"}
  ROOT %two = u8[4,4]{1,0} copy(%one), backend_config={"estimated_cycles":"30"}
}

%body (t: (s32[], f32[2])) -> (s32[], f32[2]) {
  %t = (s32[], f32[2]{0}) parameter(0)
  %x = f32[2]{0} get-tuple-element(%t), index=1
  %y = f32[2]{0} negate(%x), backend_config={"estimated_cycles":"5"}
  ROOT %r = (s32[], f32[2]{0}) tuple(%x, %y)
}

%until (t: (s32[], f32[2])) -> pred[] {
  %t = (s32[], f32[2]{0}) parameter(0)
  ROOT %no = pred[] constant(false)
}

ENTRY %main (x: u8[4,4], i: s32[]) -> f32[4,4] {
  %x = u8[4,4]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %s = (u32[8]{0}, s32[8]{0}) sort(%x, %i), dimensions={0}, to_apply=%add
  %w = (s32[], f32[2]{0}) while(%i), condition=%until, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %b = u8[4,4]{1,0} conditional(%i, %x, %x), branch_computations={%cheap, %dear}
  ROOT %f = f32[4,4]{1,0} fusion(%b), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"1000"}
}
"""  # noqa: E501


def test_the_dearest_branch_and_every_turn_of_a_loop_count():
  assert cost.cycles(TEXT) == 1000 + (70 + 30) + 3 * 5


def test_kernels():
  # A sort, three turns of the loop, two copies of the dear branch, a fusion.
  assert cost.kernels(TEXT) == 1 + 3 + 2 + 1


def test_kernels_as_large_as_the_images():
  assert cost.image_kernels(TEXT, 16) == 3
  assert cost.image_kernels(TEXT, 17) == 0


def test_sorts():
  assert list(cost.sorts(TEXT)) == [8]


def test_the_largest_array_is_not_one_within_a_fusion():
  assert cost.largest(TEXT) == 64
  inside = TEXT.replace('%wide = f32[4,4]', '%wide = f32[400,4]')
  assert cost.largest(inside) == 64


def test_an_array_that_stays_on_the_chip_is_not_in_its_memory():
  text = TEXT.replace('%f = f32[4,4]{1,0}', '%f = f32[4,4]{1,0:T(8,128)S(1)}')
  assert cost.largest(text) == 32  # of the sort


def test_what_has_no_entry():
  with pytest.raises(KeyError):
    cost.cycles('')
