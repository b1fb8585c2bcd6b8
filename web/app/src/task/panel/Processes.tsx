import { Button, Table } from '@mantine/core'
import { topics } from '@foundry/client'
import { useFoundry, useTopic } from '@foundry/client/react'
import { IconCpu, IconRefresh } from '@tabler/icons-react'
import { SandboxState, type Process, type Sandbox } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { memo, useMemo } from 'react'
import { EmptyState, ErrorState, ListSkeleton, RelativeTime, spanText, TextSkeleton } from '../../ui'
import { ConditionLine, saysSomething } from '../header/ConditionLine'
import { useRead } from '../../state/read'
import { InertLine } from '../../ui/text/Inert'
import { counted, sizeText } from '../../ui/text/size'
import classes from './panel.module.css'

/** The sandbox of a task and its processes, which are loaded on opening and by the button, never automatically. */
function Processes({ sandboxId }: { sandboxId: string }) {
  if (sandboxId === '') {
    return (
      <EmptyState icon={IconCpu} title="No sandbox" level={3}>
        It has not been created yet, or it was released. The task's conversation, changes and files stay readable.
      </EmptyState>
    )
  }
  return <OfSandbox sandboxId={sandboxId} />
}

const words: Readonly<Partial<Record<SandboxState, string>>> = {
  [SandboxState.QUEUED]: 'queued',
  [SandboxState.ALLOCATING]: 'being allocated',
  [SandboxState.PREPARING_REPO]: 'preparing its repository',
  [SandboxState.INSTALLING_AGENT]: 'installing its agent',
  [SandboxState.STARTING_AGENT]: 'starting its agent',
  [SandboxState.READY]: 'ready',
  [SandboxState.VANISHED]: 'restarting after its runtime died',
  [SandboxState.ERROR]: 'failed',
  [SandboxState.DESTROYING]: 'being destroyed',
  [SandboxState.DESTROYED]: 'destroyed',
}

function OfSandbox({ sandboxId }: { sandboxId: string }) {
  const client = useFoundry()
  const state = useTopic(useMemo(() => topics.sandbox(sandboxId), [sandboxId]))
  const item = state?.entities.get(`sandbox/${sandboxId}`)?.item
  const sandbox = item?.case === 'sandbox' ? item.value : undefined
  const lives = sandbox === undefined || sandbox.state === SandboxState.READY
  const list = useRead(sandbox !== undefined && lives ? sandboxId : undefined, (signal) =>
    client.provisioner.listProcesses({ sandboxId }, { signal }),
  )
  if (state?.phase === 'ended' && sandbox === undefined) return <ErrorState error={state.error} title="The sandbox could not be loaded" />
  if (sandbox === undefined) return <ListSkeleton rows={4} label="Loading the sandbox" />
  return (
    <div className={classes.processes}>
      <Facts sandbox={sandbox} />
      {saysSomething(sandbox.condition) && <ConditionLine condition={sandbox.condition} />}
      {sandbox.reachedLimits.map((reached) => (
        <ConditionLine key={reached.message} condition={reached} />
      ))}
      {lives ? (
        <>
          <div className={classes.processBar}>
            <span>
              {list.data !== undefined && counted(list.data.processes.length, 'process', 'processes')}{' '}
              <span className="fd-muted">
                <RelativeTime time={list.data?.readTime} prefix="as of" ago />
              </span>
            </span>
            <Button variant="default" leftSection={<IconRefresh size={14} />} loading={list.loading} onClick={list.reload}>
              Refresh
            </Button>
          </div>
          {list.error !== undefined && <ErrorState error={list.error} title="The processes could not be loaded" compact />}
          {list.data === undefined && list.error === undefined && <TextSkeleton lines={4} label="Loading the processes" />}
          {list.data !== undefined && <List processes={list.data.processes} truncated={list.data.truncated} />}
        </>
      ) : (
        <EmptyState icon={IconCpu} title="No processes" level={3}>
          The sandbox is {words[sandbox.state] ?? 'not ready'}.
        </EmptyState>
      )}
    </div>
  )
}

function Facts({ sandbox }: { sandbox: Sandbox }) {
  return (
    <dl className={classes.facts}>
      <dt>Sandbox</dt>
      <dd>{words[sandbox.state] ?? 'unknown'}</dd>
      <dt>Provider</dt>
      <dd>
        <InertLine text={sandbox.provider} />
      </dd>
      {sandbox.isolation !== '' && (
        <>
          <dt>Isolation</dt>
          <dd>
            <InertLine text={sandbox.isolation} />
          </dd>
        </>
      )}
      {sandbox.network !== '' && (
        <>
          <dt>Network</dt>
          <dd>
            <InertLine text={sandbox.network} />
          </dd>
        </>
      )}
      {sandbox.limits !== '' && (
        <>
          <dt>Limits</dt>
          <dd>
            <InertLine text={sandbox.limits} />
          </dd>
        </>
      )}
      <dt>Runtime instance</dt>
      <dd>{String(sandbox.runtimeInstance)}</dd>
    </dl>
  )
}

function List({ processes, truncated }: { processes: readonly Process[]; truncated: boolean }) {
  return (
    <div className={classes.tableFrame} tabIndex={0} role="region" aria-label="Processes">
      <Table verticalSpacing={4} fz={12.5}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>PID</Table.Th>
            <Table.Th>Command</Table.Th>
            <Table.Th>State</Table.Th>
            <Table.Th ta="end">CPU time</Table.Th>
            <Table.Th ta="end">Memory</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {processes.map((process) => (
            <Table.Tr key={process.pid}>
              <Table.Td>{process.pid}</Table.Td>
              <Table.Td className={classes.command}>
                <InertLine text={process.command} />
              </Table.Td>
              <Table.Td>{states[process.state] ?? process.state}</Table.Td>
              <Table.Td ta="end">{spanText(Number(process.cpuMillis))}</Table.Td>
              <Table.Td ta="end">{sizeText(process.rssBytes)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      {truncated && <p className={classes.note}>Not all processes are listed.</p>}
    </div>
  )
}

const states: Readonly<Record<string, string>> = {
  R: 'running',
  S: 'sleeping',
  D: 'waiting for I/O',
  Z: 'zombie',
  T: 'stopped',
  I: 'idle',
}

export default memo(Processes)
