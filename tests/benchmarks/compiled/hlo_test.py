import pytest

from benchmarks.compiled.hlo import Collective, collectives

TEXT = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  ROOT %sum = f32[] add(%x, %y)
}

%turn (p: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %permute = f32[2,3]{1,0} collective-permute(%x), channel_id=1, metadata={op_name="jit(step)/shard_map/ppermute" stack_frame_id=2}
}

%many (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all = (s32[1]{0}, s32[1]{0}, /*index=2*/s32[1]{0}) all-to-all(%a, %b, /*index=2*/%c), channel_id=1
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %all-reduce.1 = (f32[3,3]{1,0}, bf16[5]{0}, /*index=2*/f32[]) all-reduce(%a, %b, /*index=2*/%c), to_apply=%add, metadata={op_name="jit(step)/transpose(jvp(Net))/Conv_0"}
  %gather = f32[16]{0} all-gather(%d), dimensions={0}
  %scatter = bf16[2]{0} reduce-scatter(%e), to_apply=%add
  %used = f32[] add(%all-reduce.1, %gather)
  %w = (s32[], f32[2,3]{1,0}) while(%t), condition=%c, body=%turn, backend_config={"known_trip_count":{"n":"7"}}
  %v = (s32[], f32[8]{0}) while(%t), condition=%c, body=%many
  ROOT %done = f32[4]{0} copy(%w)
}
"""  # noqa: E501


def test_every_collective_is_read():
  assert list(collectives(TEXT, 8)) == [
    Collective(
      'collective-permute', 24, times=7, source='jit(step)/shard_map/ppermute'
    ),
    Collective('all-to-all', 12, looped=True),
    Collective(
      'all-reduce', 50, 10, 3, source='jit(step)/transpose(jvp(Net))/Conv_0'
    ),
    Collective('all-gather', 64),
    Collective('reduce-scatter', 32, 32),
  ]


@pytest.mark.parametrize(
  'line, size',
  [
    ('(f32[2]{0}, f32[16]{0}) all-gather-start(%a)', 64),
    ('((f32[2], f32[1]), (f32[16], f32[8])) all-gather-start(%a, %b)', 96),
    ('(f32[6]{0}, f32[6]{0}, u32[], u32[]) collective-permute-start(%a)', 24),
    ('(f32[2]{0}, f32[3]{0}) all-reduce-start(%a, %b)', 20),
  ],
)
def test_an_asynchronous_collective_counts_once(line, size):
  text = f'ENTRY %main () -> f32[] {{\n  %x = {line}\n  %y = f32[] '
  text += 'all-gather-done(%x)\n}\n'
  (one,) = collectives(text, 8)
  assert one.bytes == size


def test_an_unknown_dtype_is_named():
  text = 'ENTRY %main () -> f32[] {\n  %x = f4[8]{0} all-gather(%a)\n}\n'
  with pytest.raises(ValueError, match='f4'):
    list(collectives(text, 8))


@pytest.mark.parametrize(
  'kind, sent',
  [
    ('all-reduce', 1400),
    ('all-gather', 700),
    ('reduce-scatter', 700),
    ('all-to-all', 700),
    ('collective-permute', 800),
  ],
)
def test_bytes_sent_on_a_ring(kind, sent):
  one = Collective(kind, 800)
  assert one.sent(8) == sent
  assert one._replace(times=3).sent(8) == 3 * sent
  assert one.sent(1) == 0, 'a single device sends something'
