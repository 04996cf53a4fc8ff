import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DecodedPacket, decode, encode, type RecordType } from 'dns-packet';
import fc from 'fast-check';
import { answerTo, type Zone } from './answer.ts';

const ADDRESS = '127.107.251.2';
const zone: Zone = {
  addressOf: (name) => (name === 'dev' ? ADDRESS : undefined),
  nameOf: (address) => (address === ADDRESS ? 'dev' : undefined),
  reverseZone: '251.107.127.in-addr.arpa',
};
const RCODE = 0x000f;
const AUTHORITATIVE = 0x0400;

function queryFor(name: string, type: RecordType | number = 'A', options: object = {}): Buffer {
  const bytes = encode({
    ...{ id: 4711, type: 'query', flags: 0x0100 },
    questions: [{ name, type: typeof type === 'number' ? 'A' : type, class: 'IN' }],
    ...options,
  });
  if (typeof type === 'number') bytes.writeUInt16BE(type, bytes.length - 4);
  return bytes;
}

interface Answered {
  readonly rcode: number;
  readonly isAuthoritative: boolean;
  readonly data: readonly unknown[];
  readonly negativeTtl: number | undefined;
  readonly packet: DecodedPacket;
}

function ask(query: Uint8Array, of: Zone = zone): Answered {
  const bytes = Buffer.from(answerTo(query, of) ?? assert.fail('no answer'));
  const packet = decode(bytes);
  const flags = bytes.readUInt16BE(2);
  assert.equal(packet.id, Buffer.from(query).readUInt16BE(0));
  const soa = packet.authorities?.find((record) => record.type === 'SOA');
  return {
    rcode: flags & RCODE,
    isAuthoritative: (flags & AUTHORITATIVE) !== 0,
    data: (packet.answers ?? []).map((answer) => ('data' in answer ? answer.data : undefined)),
    negativeTtl: soa?.type === 'SOA' ? soa.data.minimum : undefined,
    packet,
  };
}

const outcome = (query: Uint8Array) => {
  const { rcode, isAuthoritative, data, negativeTtl } = ask(query);
  return [rcode, isAuthoritative, data, negativeTtl];
};

test('a VM has an address, in whatever case it is asked for', () => {
  assert.deepEqual(outcome(queryFor('dev.vm')), [0, true, [ADDRESS], undefined]);
  const mixed = ask(queryFor('dEv.Vm'));
  assert.deepEqual(mixed.data, [ADDRESS]);
  assert.equal(mixed.packet.questions?.[0]?.name, 'dEv.Vm');
  assert.equal(mixed.packet.answers?.[0]?.name, 'dEv.Vm');
  const [answer] = mixed.packet.answers ?? [];
  assert.ok(answer?.type === 'A' && answer.ttl !== undefined && answer.ttl > 0 && answer.ttl <= 10);
});

test('of other types it has none, of which there is a short memory: AAAA above all, and types nobody knows', () => {
  for (const type of ['AAAA', 'MX', 'TXT', 'DS', 65] as const) {
    const query = queryFor('dev.vm', type);
    const [rcode, isAuthoritative, data, negativeTtl] = outcome(query);
    assert.deepEqual([rcode, isAuthoritative, data], [0, true, []], String(type));
    assert.ok(typeof negativeTtl === 'number' && negativeTtl <= 5);
    // The question comes back as it was.
    const answer = Buffer.from(answerTo(query, zone) ?? []);
    assert.ok(answer.subarray(12).indexOf(query.subarray(12)) === 0, String(type));
  }
});

test('there is nobody else below vm', () => {
  for (const name of ['other.vm', 'a.dev.vm', 'devvm.vm']) assert.equal(ask(queryFor(name)).rcode, 3, name);
  assert.ok((ask(queryFor('other.vm')).negativeTtl ?? 99) <= 5);
});

test('the top has an SOA and nothing else', () => {
  const { rcode, packet } = ask(queryFor('vm', 'SOA'));
  assert.deepEqual([rcode, packet.answers?.[0]?.type], [0, 'SOA']);
  assert.deepEqual(outcome(queryFor('vm')).slice(0, 3), [0, true, []]);
});

test('addresses of VMs have names; others of the instance have none', () => {
  assert.deepEqual(outcome(queryFor('2.251.107.127.in-addr.arpa', 'PTR')), [0, true, ['dev.vm'], undefined]);
  assert.equal(ask(queryFor('3.251.107.127.in-addr.arpa', 'PTR')).rcode, 3);
  assert.equal(ask(queryFor('1.2.251.107.127.in-addr.arpa', 'PTR')).rcode, 3);
});

test('what is not ours is refused, so that whoever asks goes elsewhere with it', () => {
  for (const name of [
    'example.org',
    'vm.example.org',
    'devvm',
    'dev.vm.',
    '.',
    'localhost',
    '1.0.0.127.in-addr.arpa',
  ]) {
    const { rcode, isAuthoritative, data } = ask(queryFor(name));
    const expected = name === 'dev.vm.' ? [0, true, [ADDRESS]] : [5, false, []];
    assert.deepEqual([rcode, isAuthoritative, data], expected, name);
  }
  assert.equal(ask(queryFor('vm', 'AXFR')).rcode, 5);
  const chaos = queryFor('dev.vm');
  chaos.writeUInt16BE(3, chaos.length - 2);
  assert.equal(ask(chaos).rcode, 5);
});

test('options are answered with options, and only then', () => {
  const options = [{ type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [] }];
  const types = (query: Buffer) => (ask(query).packet.additionals ?? []).map(({ type }) => type);
  assert.deepEqual(types(queryFor('dev.vm', 'A', { additionals: options })), ['OPT']);
  assert.deepEqual(types(queryFor('dev.vm')), []);
});

test('an answer is never answered: two servers cannot keep each other busy', () => {
  assert.equal(
    answerTo(encode({ type: 'response', id: 1, questions: [{ name: 'dev.vm', type: 'A' }] }), zone),
    undefined,
  );
  const answer = answerTo(queryFor('dev.vm'), zone) ?? assert.fail();
  assert.equal(answerTo(answer, zone), undefined);
  assert.equal(answerTo(Buffer.alloc(11), zone), undefined);
});

test('nonsense is told so, without repeating it', () => {
  const two = encode({
    id: 1,
    questions: [
      { name: 'dev.vm', type: 'A' },
      { name: 'dev.vm', type: 'A' },
    ],
  });
  const cut = queryFor('dev.vm').subarray(0, -3);
  const long = Buffer.concat([queryFor('dev.vm'), Buffer.alloc(2000)]);
  // 63 bytes that are no UTF-8 would be 189 as it is read; a label with a dot in it is another name.
  const header = queryFor('x').subarray(0, 12);
  const binary = Buffer.concat([
    header,
    Buffer.of(63),
    Buffer.alloc(63, 0xff),
    Buffer.of(2),
    Buffer.from('vm\0\0\x01\0\x01'),
  ]);
  const dotted = Buffer.concat([header, Buffer.of(6), Buffer.from('dev.vm'), Buffer.from('\0\0\x01\0\x01')]);
  const pointer = Buffer.concat([header, Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
  for (const query of [two, cut, long, binary, dotted, pointer]) {
    const { rcode, packet } = ask(query);
    assert.deepEqual([rcode, packet.questions?.length ?? 0], [1, 0]);
  }
  const notify = queryFor('dev.vm');
  notify.writeUInt16BE(4 << 11, 2);
  assert.equal(ask(notify).rcode, 4);
});

/** No more than a name, an address or an SOA on top of what was asked. */
const MOST_ADDED_BYTES = 120;

test('whatever comes: no exception, no long answer, no answer that another server would answer', () => {
  const anything = fc.uint8Array({ maxLength: 1500 });
  const mutated = fc
    .tuple(
      fc.constantFrom('dev.vm', 'other.vm', 'example.org', 'vm'),
      fc.array(fc.tuple(fc.nat(60), fc.nat(255))),
    )
    .map(([name, changes]) => {
      const query = queryFor(name);
      for (const [at, value] of changes) query[at % query.length] = value;
      return new Uint8Array(query);
    });
  fc.assert(
    fc.property(fc.oneof(anything, mutated), (query) => {
      const answer = answerTo(query, zone);
      if (answer === undefined) return;
      assert.ok(answer.length <= query.length + MOST_ADDED_BYTES, `${answer.length} for ${query.length}`);
      assert.equal(answerTo(answer, zone), undefined);
      decode(Buffer.from(answer));
    }),
    { numRuns: 5000 },
  );
});
