import { create } from '@bufbuild/protobuf'
import { AgentProfileSettingsSchema, McpServerSchema } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { expect, test } from 'vitest'
import {
  argumentsOf,
  argumentsText,
  keepsSecrets,
  newServer,
  serverKinds,
  serverMessages,
  serverProblems,
  serverRows,
  serversText,
  type ServerRow,
} from './servers'

const secret = (name: string) => ({ name, content: { case: 'secret' as const, value: {} } })
const plain = (name: string, value: string) => ({ name, content: { case: 'value' as const, value } })
const stored = create(AgentProfileSettingsSchema, {
  mcpServers: [
    {
      name: 'files',
      transport: {
        case: 'stdio',
        value: { command: 'npx', args: ['-y', 'two words', ''], environment: [secret('TOKEN'), plain('LEVEL', '2')] },
      },
    },
    { name: 'web', transport: { case: 'http', value: { url: 'https://mcp.example/a', headers: [secret('authorization')] } } },
    { name: 'old', transport: { case: 'sse', value: { url: 'https://old.example/' } } },
    { name: 'later' },
  ],
}).mcpServers
const rows = serverRows(stored)
const none = () => ''
const never = () => false
const found = (of: ServerRow[], isGiven: (id: string) => boolean = never) =>
  Object.fromEntries(Object.entries(serverProblems(of, isGiven)).filter(([, it]) => it !== undefined))
const of = (at: number, change: Partial<ServerRow> = {}): ServerRow => ({ ...rows[at]!, ...change })

test('what is stored comes back as it was, with empty secrets, which keeps them', () => {
  const sent = create(AgentProfileSettingsSchema, { mcpServers: serverMessages(rows, none) })
  expect(sent.mcpServers).toEqual(stored)
  expect(found(rows)).toEqual({})
})

test('a server of an unknown kind is shown, and sent as it is', () => {
  expect(of(3).kind).toBeUndefined()
  expect(serversText([of(3)])).toBe('later: unknown kind')
  expect(serverMessages([of(3)], none)[0]).toBe(stored[3])
})

test('servers are told with where they are and the names of their secrets', () => {
  expect(serversText(rows)).toBe(
    'files: npx -y "two words" "", with TOKEN (secret), LEVEL: 2; web: https://mcp.example/a, with authorization (secret); ' +
      'old: https://old.example/ (sse); later: unknown kind',
  )
})

test('each change of a server has another text, so that it is sent', () => {
  const changes: [number, Partial<ServerRow>][] = [
    [0, { name: 'others' }],
    [0, { command: 'npx -y' }],
    [0, { arguments: '-y\ntwo\nwords\n""' }],
    [0, { arguments: '-y' }],
    [0, { environment: [] }],
    [1, { url: 'https://mcp.example/b' }],
    [1, { kind: 'sse' }],
    [1, { kind: 'stdio', command: 'web-mcp' }],
    [1, { headers: [] }],
  ]
  for (const [at, change] of changes) expect(serversText([of(at, change)]), JSON.stringify(change)).not.toBe(serversText([of(at)]))
})

test('secrets are sent by the id of their entry, which begins with the field of settings', () => {
  const ids = rows.flatMap((it) => [...it.headers, ...it.environment]).map((it) => it.id)
  expect(ids).toEqual([
    'mcp_servers/files/environment/TOKEN',
    'mcp_servers/files/environment/LEVEL',
    'mcp_servers/web/headers/authorization',
  ])
  const sent = create(AgentProfileSettingsSchema, { mcpServers: serverMessages(rows, (id) => `of ${id}`) }).mcpServers
  expect(sent[1]?.transport).toMatchObject({
    value: { headers: [{ content: { value: { value: 'of mcp_servers/web/headers/authorization' } } }] },
  })
})

test('arguments are one a line, and in quotes where a line alone would be another one', () => {
  const args = ['-y', '', ' edge ', 'a b', 'two\nlines', 'end\r', '"quoted"', '"half', 'C:\\tools', 'ünï']
  expect(argumentsOf(argumentsText(args))).toEqual(args)
  expect(argumentsText(['-y', 'a b'])).toBe('-y\na b')
  expect(argumentsText(['two\nlines'])).toBe('"two\\nlines"')
  expect(argumentsOf(' -y \r\n\n"a b"\n')).toEqual(['-y', 'a b'])
  expect(argumentsOf('')).toEqual([])
})

test('only what belongs to the chosen kind is sent and looked at', () => {
  const both: ServerRow = { ...newServer(), name: ' x ', url: ' https://x.example ', command: ' run ', arguments: 'a', kind: 'http' }
  expect(serverMessages([both], none)).toEqual([
    { name: 'x', transport: { case: 'http', value: { url: 'https://x.example', headers: [] } } },
  ])
  expect(serverMessages([{ ...both, kind: 'stdio' }], none)).toEqual([
    { name: 'x', transport: { case: 'stdio', value: { command: 'run', args: ['a'], environment: [] } } },
  ])
  for (const { kind } of serverKinds) expect(found([{ ...both, kind }])).toEqual({})
})

test('secrets stay with their server: under another name, kind or origin they are entered again', () => {
  const kept: [number, Partial<ServerRow>][] = [
    [1, {}],
    [1, { url: 'https://MCP.example:443/b' }],
    [1, { kind: 'sse' }],
    [0, { command: 'other' }],
  ]
  for (const [at, change] of kept) expect(keepsSecrets(of(at, change)), JSON.stringify(change)).toBe(true)
  const lost: [number, Partial<ServerRow>][] = [
    [1, { name: 'other' }],
    [1, { url: 'https://other.example/a' }],
    [1, { url: 'http://mcp.example/a' }],
    [1, { url: 'https://mcp.example:444/a' }],
    [1, { kind: 'stdio' }],
    [0, { kind: 'http', url: 'https://mcp.example' }],
    [0, { name: 'other' }],
  ]
  for (const [at, change] of lost) expect(keepsSecrets(of(at, change)), JSON.stringify(change)).toBe(false)
  const moved = [of(1, { url: 'https://other.example' })]
  const id = 'mcp_servers/web/headers/authorization'
  expect(found(moved)).toEqual({ [id]: 'The value is required.' })
  expect(found(moved, (it) => it === id)).toEqual({})
})

test('a name is short, plain and used once; an address and a command are needed', () => {
  const named = (name: string) => Object.values(found([{ ...newServer(), name, url: 'https://x' }]))
  for (const good of ['a', 'A.b-c_1', ' a ', 'x'.repeat(64)]) expect(named(good), good).toEqual([])
  for (const bad of ['a b', 'a/b', '..', 'ü', 'x'.repeat(65)])
    expect(named(bad), bad).toEqual(['Use up to 64 letters, digits, dashes, dots and underscores.'])
  expect(Object.values(found([newServer()]))).toEqual(['A name is required.', 'The URL is required.'])
  expect(Object.values(found([{ ...newServer(), name: 'a', kind: 'stdio' }]))).toEqual(['The command is required.'])
  expect(Object.values(found([...rows, { ...newServer(), name: 'web', url: 'https://x' }]))).toEqual(['This name is used twice.'])
  expect(found([{ ...newServer(), name: 'later', url: 'https://x' }, of(3)])).toEqual({
    'mcp_servers/later/name': 'This name is used twice.',
  })
})

test('headers are the same in any case of letters, variables are not', () => {
  const entry = (name: string) => ({ id: name, name, value: 'v', isSecret: false })
  const twice = [entry('A'), entry('a')]
  expect(Object.values(found([of(2, { headers: twice })]))).toEqual(['This name is used twice.'])
  expect(found([of(0, { environment: twice })])).toEqual({})
})

test('each kind of the protocol can be chosen', () => {
  const kinds = McpServerSchema.oneofs.flatMap((it) => it.fields.map((field) => field.localName))
  expect(serverKinds.map((it) => it.kind).sort()).toEqual(kinds.sort())
})
