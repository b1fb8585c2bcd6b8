import type { McpServer } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { entriesOf, entriesText, entryProblems, namedValues, sameHeader, sameVariable, unstored, type Entry } from './entries'
import type { Problems } from './useSettings'
import { addressProblem } from './words'

/** How an agent reaches an MCP server. */
export type ServerKind = 'http' | 'sse' | 'stdio'

/** The kinds to choose from. */
export const serverKinds: readonly { readonly kind: ServerKind; readonly text: string }[] = [
  { kind: 'http', text: 'HTTP' },
  { kind: 'sse', text: 'HTTP, older (SSE)' },
  { kind: 'stdio', text: 'Local command' },
]

/** An MCP server in a form. The fields of the other kinds are kept when another kind is chosen. */
export interface ServerRow {
  /** Begins with the name of the field in the settings, as the ids of its entries do. */
  readonly id: string
  readonly name: string
  /** Undefined = a kind that this page does not know: it is shown, and kept as it is. */
  readonly kind: ServerKind | undefined
  readonly url: string
  readonly headers: readonly Entry[]
  readonly command: string
  /** One argument per line (`argumentsOf`). */
  readonly arguments: string
  readonly environment: readonly Entry[]
  /** The stored server; undefined = it was added here. */
  readonly stored: McpServer | undefined
}

const list = 'mcp_servers'
const blank = { url: '', headers: [], command: '', arguments: '', environment: [] }
let made = 0

/** An empty MCP server. */
export function newServer(): ServerRow {
  made += 1
  return { ...blank, id: `${list}//${made}`, name: '', kind: 'http', stored: undefined }
}

/** Stored MCP servers as a form holds them. */
export function serverRows(servers: readonly McpServer[]): ServerRow[] {
  return servers.map((stored) => {
    const { name, transport } = stored
    const id = `${list}/${name}`
    const row = { ...blank, id, name, kind: transport.case, stored }
    if (transport.case === undefined) return row
    if (transport.case !== 'stdio') {
      const { url, headers } = transport.value
      return { ...row, url, headers: entriesOf(`${id}/headers`, headers) }
    }
    const { command, args, environment } = transport.value
    return { ...row, command, arguments: argumentsText(args), environment: entriesOf(`${id}/environment`, environment) }
  })
}

/** The MCP servers as they are sent. */
export function serverMessages(rows: readonly ServerRow[], secretOf: (id: string) => string) {
  return rows.map((row) => {
    const { kind, stored } = row
    const name = row.name.trim()
    if (kind === undefined) return stored ?? { name }
    if (kind !== 'stdio')
      return { name, transport: { case: kind, value: { url: row.url.trim(), headers: namedValues(row.headers, secretOf) } } }
    const environment = namedValues(row.environment, secretOf)
    return { name, transport: { case: kind, value: { command: row.command.trim(), args: argumentsOf(row.arguments), environment } } }
  })
}

function quotedText(line: string): string | undefined {
  if (!line.startsWith('"')) return undefined
  try {
    const text: unknown = JSON.parse(line)
    return typeof text === 'string' ? text : undefined
  } catch {
    return undefined
  }
}

/** Arguments as text, one per line; quoted as in JSON where the plain line would be read differently. */
export function argumentsText(args: readonly string[]): string {
  const isPlain = (it: string) => it !== '' && it === it.trim() && !/[\n\r]/.test(it) && quotedText(it) === undefined
  return args.map((it) => (isPlain(it) ? it : JSON.stringify(it))).join('\n')
}

/** The arguments in a text; empty lines are ignored. */
export function argumentsOf(text: string): string[] {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim())
  return lines.filter((line) => line !== '').map((line) => quotedText(line) ?? line)
}

/** A word of a command for people, quoted where its end would not be clear. */
function word(text: string): string {
  return /^[\w@%+=:./-]+$/.test(text) ? text : JSON.stringify(text)
}

function serverText(row: ServerRow): string {
  const name = row.name.trim()
  if (row.kind === undefined) return `${name}: unknown kind`
  const command = [row.command.trim(), ...argumentsOf(row.arguments)].map(word).join(' ')
  const how = { http: row.url.trim(), sse: `${row.url.trim()} (sse)`, stdio: command }[row.kind]
  const values = entriesText(row.kind === 'stdio' ? row.environment : row.headers)
  return `${name}: ${how}${values === '' ? '' : `, with ${values}`}`
}

/** The MCP servers as text, without secrets. */
export function serversText(rows: readonly ServerRow[]): string {
  return rows.map(serverText).join('; ')
}

function origin(url: string): string | undefined {
  try {
    return new URL(url.trim()).origin
  } catch {
    return undefined
  }
}

/** Whether the stored secrets of a server still apply: the service does not give them to any other server. */
export function keepsSecrets({ name, kind, url, stored }: ServerRow): boolean {
  if (stored === undefined || stored.name !== name.trim()) return false
  const { transport } = stored
  if (transport.case === undefined) return false
  if (transport.case === 'stdio' || kind === 'stdio') return transport.case === kind
  const now = origin(url)
  return now !== undefined && now === origin(transport.value.url)
}

function serverNameProblem(name: string): string | undefined {
  if (name === '') return 'A name is required.'
  if (/^[\w.-]{1,64}$/.test(name) && !/^\.+$/.test(name)) return undefined
  return 'Use up to 64 letters, digits, dashes, dots and underscores.'
}

/** Problems of MCP servers, by `id/FIELD`, and of their headers and variables, by the ids of these. */
export function serverProblems(rows: readonly ServerRow[], isGiven: (id: string) => boolean): Problems {
  let problems: Problems = {}
  rows.forEach((row, at) => {
    const name = row.name.trim()
    const isTwice = rows.slice(0, at).some((other) => other.name.trim() === name)
    const ofName = row.kind === undefined ? undefined : serverNameProblem(name)
    problems = { ...problems, [`${row.id}/name`]: ofName ?? (isTwice ? 'This name is used twice.' : undefined) }
    if (row.kind === undefined) return
    const isLocal = row.kind === 'stdio'
    const entries = isLocal ? row.environment : row.headers
    problems = {
      ...problems,
      ...(isLocal
        ? { [`${row.id}/command`]: row.command.trim() === '' ? 'The command is required.' : undefined }
        : { [`${row.id}/url`]: addressProblem(row.url) }),
      ...entryProblems(keepsSecrets(row) ? entries : entries.map(unstored), isGiven, isLocal ? sameVariable : sameHeader),
    }
  })
  return problems
}
