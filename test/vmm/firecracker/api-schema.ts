/** Firecracker's own definition of its API (test/fixtures/firecracker-api.json), and whether a request keeps to it. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Schema {
  readonly $ref?: string;
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
}

interface Operation {
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly schema?: Schema }[];
  readonly responses: Readonly<Record<string, { readonly schema?: Schema }>>;
}

interface Api {
  readonly version: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly definitions: Readonly<Record<string, Schema>>;
}

const FILE = join(import.meta.dirname, '..', '..', 'fixtures', 'firecracker-api.json');
const api = JSON.parse(readFileSync(FILE, 'utf8')) as Api;

/** As a program's version: without what marks an unfinished one. */
export const API_VERSION = api.version.replace(/-dev$/, '');

/** A request of the API is wrong: the text of `fault_message`. */
export class Fault extends Error {}

export interface Matched {
  /** As in the definition: `/drives/{drive_id}`. */
  readonly template: string;
  readonly operation: Operation;
  /** Of the path: `drive_id` … */
  readonly parameters: Readonly<Record<string, string>>;
}

/** @throws {Fault} */
export function matchPath(method: string, path: string): Matched {
  for (const [template, operations] of Object.entries(api.paths)) {
    const names = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '');
    const values = new RegExp(`^${template.replace(/\{\w+\}/g, '([^/]+)')}$`).exec(path)?.slice(1);
    const operation = operations[method.toLowerCase()];
    if (values === undefined || operation === undefined) continue;
    return {
      template,
      operation,
      parameters: Object.fromEntries(names.map((name, at) => [name, values[at] ?? ''])),
    };
  }
  throw new Fault(`Invalid request method and/or path: ${method} ${path}.`);
}

/** @throws {Fault} */
export function checkBody(operation: Operation, body: unknown): void {
  const schema = operation.parameters?.find((parameter) => parameter.in === 'body')?.schema;
  if (schema !== undefined) check(schema, body, 'the body');
  else if (body !== undefined) throw new Fault('GET request cannot have a body.');
}

/** What the definition says of an answer with this status: a mistake of the model when it is something else. */
export function checkAnswer(operation: Operation, status: number, body: unknown): void {
  const response = operation.responses[String(status)] ?? operation.responses['default'];
  if (response === undefined) throw new Error(`the API has no answer with status ${status}`);
  if (response.schema === undefined) return;
  check(response.schema, body, 'the answer');
}

function check(schema: Schema, value: unknown, where: string): void {
  if (schema.$ref !== undefined) {
    const definition = api.definitions[schema.$ref.replace('#/definitions/', '')];
    if (definition === undefined) throw new Error(`no definition ${schema.$ref}`);
    check(definition, value, where);
    return;
  }
  if (schema.enum !== undefined && !schema.enum.includes(value as string)) {
    throw new Fault(
      `unknown variant \`${String(value)}\` of ${where}, expected one of ${schema.enum.join(', ')}`,
    );
  }
  switch (schema.type) {
    case 'object':
      checkObject(schema, value, where);
      return;
    case 'array':
      if (!Array.isArray(value)) throw new Fault(`invalid type: ${where} is no array`);
      for (const each of value) check(schema.items ?? {}, each, where);
      return;
    case 'integer':
      checkInteger(schema, value, where);
      return;
    default:
      if (schema.type !== undefined && typeof value !== schema.type) {
        throw new Fault(`invalid type: ${where} is no ${schema.type}`);
      }
  }
}

function checkObject({ properties = {}, required = [] }: Schema, value: unknown, where: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Fault(`invalid type: ${where} is no object`);
  }
  for (const name of required) {
    if (!Object.hasOwn(value, name)) throw new Fault(`missing field \`${name}\``);
  }
  for (const [name, each] of Object.entries(value)) {
    const schema = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (schema === undefined) {
      throw new Fault(`unknown field \`${name}\`, expected one of ${Object.keys(properties).join(', ')}`);
    }
    check(schema, each, name);
  }
}

function checkInteger({ minimum, maximum }: Schema, value: unknown, where: string): void {
  if (!Number.isSafeInteger(value)) throw new Fault(`invalid type: ${where} is no integer`);
  if ((value as number) < (minimum ?? -Infinity) || (value as number) > (maximum ?? Infinity)) {
    throw new Fault(`invalid value: ${where} is ${String(value)}`);
  }
}
