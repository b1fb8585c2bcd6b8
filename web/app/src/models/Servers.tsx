import { Input, Select, Textarea, TextInput } from '@mantine/core'
import { visibleLine } from '../ui/text/visible'
import classes from './ModelsPage.module.css'
import { NamedValues } from './NamedValues'
import { Rows } from './Rows'
import { keepsSecrets, newServer, serverKinds, type ServerRow } from './servers'
import { plain } from './SettingsDialog'
import type { Problems } from './useSettings'
import type { Secrets } from './useSecrets'

interface Props {
  servers: readonly ServerRow[]
  onServers: (servers: ServerRow[]) => void
  problems: Problems
  secrets: Secrets
  error: string | undefined
}

/** The MCP servers of an agent profile. */
export function Servers({ servers, onServers, problems, secrets, error }: Props) {
  return (
    <Rows
      title="MCP servers"
      one="MCP server"
      about="Servers that give the agent more tools."
      none="No MCP servers yet."
      rows={servers}
      onRows={onServers}
      fresh={newServer}
      error={error}
    >
      {(server, change, isFresh) => {
        const props = { server, change, problems, secrets }
        if (server.kind === undefined) return <UnknownServer server={server} problems={problems} />
        return (
          <>
            <TextInput
              {...plain}
              className={classes.cell}
              label="Name"
              placeholder="issues"
              autoFocus={isFresh}
              value={server.name}
              onChange={(event) => change({ name: event.currentTarget.value })}
              error={problems[`${server.id}/name`]}
            />
            <Select
              className={classes.cell}
              label="Kind"
              data={serverKinds.map((it) => ({ value: it.kind, label: it.text }))}
              value={server.kind}
              onChange={(kind) => kind !== null && change({ kind })}
              allowDeselect={false}
            />
            {server.kind === 'stdio' ? <LocalCommand {...props} /> : <Address {...props} />}
          </>
        )
      }}
    </Rows>
  )
}

interface FieldProps {
  server: ServerRow
  change: (change: Partial<ServerRow>) => void
  problems: Problems
  secrets: Secrets
}

/** A hint at stored servers, whose secrets the service gives to no other server. */
function again({ stored }: ServerRow, when: string): string {
  return stored === undefined ? '' : ` Enter them again if you ${when}.`
}

function Address({ server, change, problems, secrets }: FieldProps) {
  const about =
    'Added to each call by the model gateway. Secret values are stored encrypted, never shown, and stay outside the sandbox. Everyone in the organization can read the others.'
  return (
    <>
      <TextInput
        {...plain}
        className={classes.wide}
        label="URL"
        placeholder="https://mcp.example/mcp"
        value={server.url}
        onChange={(event) => change({ url: event.currentTarget.value })}
        error={problems[`${server.id}/url`]}
      />
      <NamedValues
        list={`${server.id}/headers`}
        title="Headers"
        one="Header"
        about={`${about}${again(server, 'rename the server or change the URL to another server')}`}
        placeholder="authorization"
        entries={server.headers}
        onEntries={(headers) => change({ headers })}
        keeps={keepsSecrets(server)}
        problems={problems}
        secrets={secrets}
        error={undefined}
      />
    </>
  )
}

function LocalCommand({ server, change, problems, secrets }: FieldProps) {
  const about =
    'Environment variables for the command. Secret values are stored encrypted and never shown, but are passed into the sandbox, where the agent can read them.'
  return (
    <>
      <TextInput
        {...plain}
        className={classes.wide}
        label="Command"
        description="Started by the agent in the sandbox. A name in PATH or an absolute path."
        placeholder="npx"
        value={server.command}
        onChange={(event) => change({ command: event.currentTarget.value })}
        error={problems[`${server.id}/command`]}
      />
      <Textarea
        {...plain}
        className={classes.wide}
        label="Arguments (optional)"
        description={
          'One per line; quote one that contains a line break, such as "a\\nb". Everyone in the organization can read them: no secrets.'
        }
        rows={3}
        resize="vertical"
        value={server.arguments}
        onChange={(event) => change({ arguments: event.currentTarget.value })}
      />
      <NamedValues
        list={`${server.id}/environment`}
        title="Environment of the server"
        one="Server variable"
        about={`${about}${again(server, 'rename the server')}`}
        placeholder="API_TOKEN"
        entries={server.environment}
        onEntries={(environment) => change({ environment })}
        keeps={keepsSecrets(server)}
        problems={problems}
        secrets={secrets}
        error={undefined}
      />
    </>
  )
}

/** A server of a kind that this version of the page does not support. */
function UnknownServer({ server, problems }: Pick<FieldProps, 'server' | 'problems'>) {
  const problem = problems[`${server.id}/name`]
  return (
    <div className={classes.server}>
      <bdi>{visibleLine(server.name)}</bdi>: this page does not support its kind. It is kept unchanged.
      {problem !== undefined && <Input.Error>{problem}</Input.Error>}
    </div>
  )
}
