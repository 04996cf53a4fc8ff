/** One query of the domain name system and its answer: an authority for `vm` and for nothing else (RFC 1035, 2308, 6891). */

import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  type DecodedPacket,
  decode,
  encode,
  type SoaAnswer,
} from 'dns-packet';

/** What there is to be known. Names are lower case, without a dot at the end. */
export interface Zone {
  /** The IPv4 address of `NAME.vm`; undefined: there is no such name. */
  readonly addressOf: (name: string) => string | undefined;
  /** The other way round. */
  readonly nameOf: (address: string) => string | undefined;
  /** The addresses that are ours to name, as a zone: `251.107.127.in-addr.arpa`. */
  readonly reverseZone: string;
}

/** Everything is below it. */
export const TOP = 'vm';
/** VMs come and go. */
const TTL_S = 5;
/** Who asks for a VM before it starts should not have to wait for its name afterwards. */
const NEGATIVE_TTL_S = 1;
/** With any room for options; longer ones ask for more than there is. */
const MAX_QUERY_BYTES = 1024;
const HEADER_BYTES = 12;
/** What a resolver may send in one datagram here: RFC 6891, "UDP message size". */
const UDP_PAYLOAD_BYTES = 1232;

const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const RECURSION_DESIRED = 0x0100;
const CHECKING_DISABLED = 0x0010;
/** RFC 1035, 4.1.1. */
const RCODES = { noError: 0, formatError: 1, nameError: 3, notImplemented: 4, refused: 5 } as const;
type Rcode = (typeof RCODES)[keyof typeof RCODES];

interface Reply {
  readonly rcode: Rcode;
  readonly answers?: readonly Answer[];
  readonly authorities?: readonly Answer[];
}

/**
 * The answer to whatever came in a datagram or a message over TCP; undefined where nothing may be said, because it is no
 * question. Never throws, and the answer is never much longer than the question: a name, an address and an SOA.
 */
export function answerTo(query: Uint8Array, zone: Zone): Uint8Array | undefined {
  const bytes = Buffer.from(query.buffer, query.byteOffset, query.byteLength);
  if (bytes.length < HEADER_BYTES) return undefined;
  const flags = bytes.readUInt16BE(2);
  if ((flags & RESPONSE) !== 0) return undefined;
  if ((flags & OPCODE) !== 0) return bare(bytes, RCODES.notImplemented);
  const packet = bytes.length > MAX_QUERY_BYTES || !hasOneQuestion(bytes) ? undefined : decoded(bytes);
  const [question] = packet?.questions ?? [];
  if (packet === undefined || question === undefined) return bare(bytes, RCODES.formatError);
  const asked = wireName(question.name);
  const raw = bytes.subarray(HEADER_BYTES, HEADER_BYTES + asked.length + 4);
  // A label with a dot in it, or bytes that are no text, stand for another name than the one that was read.
  if (!raw.subarray(0, asked.length).equals(asked)) return bare(bytes, RCODES.formatError);
  const hasOptions = packet.additionals?.some(({ type }) => type === 'OPT') === true;
  return assemble(bytes, raw, replyTo(question.name, question.type, question.class, zone), hasOptions);
}

/** RFC 1035, 3.1: each label has its length in front, and an empty one is the end. */
function wireName(name: string): Buffer {
  const labels = name === '.' ? [] : name.split('.');
  const parts = labels
    .map((label) => Buffer.from(label))
    .flatMap((label) => [Buffer.of(label.length & 0xff), label]);
  return Buffer.concat([...parts, Buffer.of(0)]);
}

function hasOneQuestion(bytes: Buffer): boolean {
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  // OPT and a signature.
  return questions === 1 && answers === 0 && authorities === 0 && (additionals ?? 0) <= 2;
}

function decoded(bytes: Buffer): DecodedPacket | undefined {
  try {
    return decode(bytes);
  } catch {
    return undefined;
  }
}

function replyTo(asked: string, type: string, recordClass: string | undefined, zone: Zone): Reply {
  const name = asked.toLowerCase();
  const top = [TOP, zone.reverseZone].find((one) => name === one || name.endsWith(`.${one}`));
  const isTransfer = type === 'AXFR' || type === 'IXFR';
  if (top === undefined || isTransfer || (recordClass !== 'IN' && recordClass !== 'ANY'))
    return { rcode: RCODES.refused };
  const soa = soaOf(top);
  if (name === top) {
    const isAsked = type === 'SOA' || type === 'ANY';
    return { rcode: RCODES.noError, ...(isAsked ? { answers: [soa] } : { authorities: [soa] }) };
  }
  const record = top === TOP ? addressRecord(asked, zone) : pointerRecord(asked, zone);
  if (record === undefined) return { rcode: RCODES.nameError, authorities: [soa] };
  if (type === record.type || type === 'ANY') return { rcode: RCODES.noError, answers: [record] };
  return { rcode: RCODES.noError, authorities: [soa] };
}

/** Under the name as it was asked for: some resolvers vary its case, and compare. */
function addressRecord(asked: string, zone: Zone): Answer | undefined {
  const address = zone.addressOf(asked.toLowerCase().slice(0, -TOP.length - 1));
  return address === undefined ? undefined : { type: 'A', name: asked, ttl: TTL_S, data: address };
}

function pointerRecord(asked: string, zone: Zone): Answer | undefined {
  const octets = asked.split('.').slice(0, -2);
  if (octets.length !== 4) return undefined;
  const name = zone.nameOf(octets.toReversed().join('.'));
  return name === undefined ? undefined : { type: 'PTR', name: asked, ttl: TTL_S, data: `${name}.${TOP}` };
}

/** Without an answer it says for how long there is none: RFC 2308, section 3. */
function soaOf(top: string): SoaAnswer {
  return {
    type: 'SOA',
    name: top,
    ttl: NEGATIVE_TTL_S,
    data: {
      mname: 'localhost',
      rname: 'root.localhost',
      serial: 1,
      refresh: 3600,
      retry: 600,
      expire: 86_400,
      minimum: NEGATIVE_TTL_S,
    },
  };
}

/** The question goes back byte for byte, of whatever type; nothing is compressed, so the rest can be put behind it. */
function assemble(query: Buffer, question: Buffer, reply: Reply, hasOptions: boolean): Buffer {
  const { rcode, answers = [], authorities = [] } = reply;
  const isOurs = rcode !== RCODES.refused;
  const records = encode({
    id: query.readUInt16BE(0),
    type: 'response',
    flags: kept(query) | (isOurs ? AUTHORITATIVE_ANSWER : 0) | rcode,
    answers: [...answers],
    authorities: [...authorities],
    additionals: hasOptions
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: UDP_PAYLOAD_BYTES,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });
  const whole = Buffer.concat([records.subarray(0, HEADER_BYTES), question, records.subarray(HEADER_BYTES)]);
  whole.writeUInt16BE(1, 4);
  return whole;
}

/** To a question that cannot be repeated. */
function bare(query: Buffer, rcode: Rcode): Buffer {
  const flags = (query.readUInt16BE(2) & OPCODE) | kept(query) | rcode;
  return Buffer.from(encode({ id: query.readUInt16BE(0), type: 'response', flags }));
}

/** What an answer repeats of a question's flags. */
function kept(query: Buffer): number {
  return query.readUInt16BE(2) & (RECURSION_DESIRED | CHECKING_DISABLED);
}
