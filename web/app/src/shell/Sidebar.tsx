import { ActionIcon, Button, SegmentedControl, TextInput, Tooltip } from '@mantine/core'
import { Code } from '@foundry/client'
import { useFoundry } from '@foundry/client/react'
import { IconFolderPlus, IconPlus, IconSearch, IconX } from '@tabler/icons-react'
import { useOrganization } from '../state/organization'
import type { Shell } from '../state/shell'
import { filterWords } from '../state/taskList'
import { EmptyState, ErrorState, Kbd, ListSkeleton, StaleBanner, useNarrow } from '../ui'
import { ConnectionIndicator } from './ConnectionIndicator'
import { useFrame } from './frame'
import { FILTER_ID } from './listFocus'
import { OrganizationSwitcher } from './OrganizationSwitcher'
import classes from './Sidebar.module.css'
import { TaskList } from './TaskList'
import { setFilter, setOrder, useListRows } from './useListRows'
import { UserMenu } from './UserMenu'

/** Organization, task list and user, from top to bottom. */
export function Sidebar({ shell, organizationId }: { shell: Shell; organizationId: string }) {
  const frame = useFrame()
  return (
    <div className={classes.sidebar}>
      <div className={classes.head}>
        <OrganizationSwitcher shell={shell} organizationId={organizationId} />
        {frame.canWrite && (
          <Tooltip label="Add repository">
            <ActionIcon onClick={frame.addRepository} aria-label="Add repository">
              <IconFolderPlus size={17} />
            </ActionIcon>
          </Tooltip>
        )}
      </div>
      {frame.canWrite && (
        <Button
          classNames={{ root: classes.create, inner: classes.inner, label: classes.createLabel }}
          leftSection={<IconPlus size={15} />}
          rightSection={<Kbd keys="c" />}
          variant="default"
          size="xs"
          onClick={() => frame.newTask()}
        >
          New task
        </Button>
      )}
      <nav aria-label="Tasks and repositories" className={classes.list}>
        <ListHead />
        <ListBody />
      </nav>
      <div className={classes.foot}>
        <UserMenu shell={shell} />
        <ConnectionIndicator />
      </div>
    </div>
  )
}

function ListHead() {
  const { rows, filter, order } = useListRows()
  const { tasks, phase } = useOrganization()
  const shown = rows.filter((row) => row.kind === 'task').length
  const count = shown === tasks.length ? `${tasks.length}` : `${shown} of ${tasks.length}`
  return (
    <div className={classes.controls}>
      <TextInput
        id={FILTER_ID}
        type="search"
        aria-label="Filter tasks"
        title={`Title, branch, repository or state; also ${filterWords.join(', ')}`}
        placeholder="Filter tasks"
        size="xs"
        value={filter}
        onChange={(event) => setFilter(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') setFilter('')
        }}
        leftSection={<IconSearch size={14} />}
        rightSection={filter === '' ? <Kbd keys="/" /> : <ClearFilter />}
      />
      <div className={classes.order}>
        <span role="status" className={classes.count}>
          {phase === 'loading' || phase === 'ended' ? 'Tasks' : `${count} ${tasks.length === 1 ? 'task' : 'tasks'}`}
        </span>
        <SegmentedControl
          aria-label="Sort by"
          value={order}
          onChange={setOrder}
          data={[
            { value: 'repository', label: 'Repository' },
            { value: 'recent', label: 'Recent' },
          ]}
        />
      </div>
    </div>
  )
}

function ClearFilter() {
  return (
    <ActionIcon size="sm" onClick={() => setFilter('')} aria-label="Clear filter">
      <IconX size={14} />
    </ActionIcon>
  )
}

function ListBody() {
  const client = useFoundry()
  const view = useOrganization()
  const { rows, filter } = useListRows()
  const frame = useFrame()
  const narrow = useNarrow()
  if (view.phase === 'loading') return <ListSkeleton label="Loading tasks" rows={8} />
  // The page beside the list shows that the organization does not exist.
  if (view.phase === 'ended' && view.error?.code === Code.NotFound) return null
  if (view.phase === 'ended' && view.tasks.length === 0) {
    return (
      <div className={classes.failure}>
        <ErrorState error={view.error} title="The tasks could not be loaded" onRetry={() => client.reconnectNow()} compact />
      </div>
    )
  }
  return (
    <>
      <StaleBanner phase={view.phase} since={view.since} />
      {rows.length > 0 && <TaskList rows={rows} />}
      {rows.length === 0 && filter.trim() !== '' && (
        <EmptyState
          title="No tasks match the filter"
          actions={
            <Button variant="default" onClick={() => setFilter('')}>
              Clear filter
            </Button>
          }
        />
      )}
      {rows.length === 0 && filter.trim() === '' && (
        <EmptyState
          title="Nothing here yet"
          actions={narrow && frame.canWrite && <Button onClick={frame.addRepository}>Add repository</Button>}
        >
          Add a repository first, then create tasks in it.
        </EmptyState>
      )}
    </>
  )
}
