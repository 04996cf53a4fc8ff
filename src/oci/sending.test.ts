import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextUrl, retryAfterMs } from './sending.ts';

test('Retry-After: seconds, a date, nothing sensible', () => {
  const now = Date.parse('2026-01-31T12:00:00Z');
  const cases: [header: string | undefined, ms: number | undefined][] = [
    ['0', 0],
    ['120', 120_000],
    ['Sat, 31 Jan 2026 12:00:30 GMT', 30_000],
    ['Sat, 31 Jan 2026 11:00:00 GMT', 0],
    [undefined, undefined],
    ['', undefined],
    ['-1', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['9999999999', undefined],
    ['2026', 2_026_000],
    ['Sat, 31 Jan 2026 12:00:30', undefined],
  ];
  for (const [header, ms] of cases) assert.equal(retryAfterMs(header, now), ms, header);
});

test('where a server may send us', () => {
  const plain = new URL('http://127.0.0.1:5000/v2/a/blobs/x');
  const secure = new URL('https://registry.example.com/v2/a/blobs/x');
  assert.equal(nextUrl('/y?z=1', plain).href, 'http://127.0.0.1:5000/y?z=1');
  assert.equal(nextUrl('http://localhost:1/y', plain).href, 'http://localhost:1/y');
  assert.equal(nextUrl('https://cdn.example.com/y', plain).href, 'https://cdn.example.com/y');
  assert.equal(nextUrl('//cdn.example.com/y', secure).href, 'https://cdn.example.com/y');
  for (const [location, from] of [
    ['http://cdn.example.com/y', plain],
    ['//cdn.example.com/y', plain],
    ['http://registry.example.com/y', secure],
    ['http://127.0.0.1/y', secure],
    ['https://a:b@cdn.example.com/', secure],
    ['data:text/plain,x', secure],
    ['javascript:x', secure],
    ['https://', secure],
    [`/${'x'.repeat(9000)}`, secure],
    [undefined, secure],
  ] as const) {
    assert.throws(() => nextUrl(location, from), /refused/, String(location).slice(0, 50));
  }
});
