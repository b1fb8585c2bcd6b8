import type { Plugin } from 'vite'

const JSON_CODE = /\/@bufbuild\/protobuf\/dist\/esm\/(?:from|to)-json\.js$/
const DESCRIPTOR = /\bfileDesc\("([A-Za-z0-9+/]+)"/g

/**
 * Makes the code for messages smaller, in the page and in its worker. The page speaks the binary form of gRPC-Web only, so
 * the code for JSON, which its client library names and never calls, is left out. And descriptors are stored as their
 * bytes: unlike in base64, gzip finds what repeats in them.
 */
export function smallProtobuf(): Plugin {
  return {
    name: 'foundry:small-protobuf',
    apply: 'build',
    transform(code, id) {
      if (JSON_CODE.test(id)) return { code: refusing(code), map: null }
      if (!code.includes('fileDesc("')) return
      return { code: code.replaceAll(DESCRIPTOR, (_, base64: string) => `fileDesc(btoa(${literal(base64)})`), map: null }
    },
  }
}

/** The same exports, each of which throws. */
function refusing(code: string): string {
  const names = [...code.matchAll(/^export function (\w+)/gm)].map(([, name]) => name)
  return names.map((name) => `export function ${name}() { throw new Error('${name} is not in this build') }`).join('\n')
}

/** A literal of the bytes, one character each. */
function literal(base64: string): string {
  return JSON.stringify(Buffer.from(base64, 'base64').toString('latin1'))
}
