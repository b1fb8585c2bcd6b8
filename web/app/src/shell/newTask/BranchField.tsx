import { Autocomplete, SegmentedControl, Select } from '@mantine/core'
import { useFoundry } from '@foundry/client/react'
import { useOrganization } from '../../state/organization'
import { useRead } from '../../state/read'
import { visibleLine } from '../../ui/text/visible'
import { readError } from './fields'
import classes from './NewTaskDialog.module.css'

/** Most branches in the field's list. */
const BRANCHES = 500

interface Props {
  repositoryId: string
  /** The branch that a new one starts from; null = the default branch. */
  base: string | null
  onBase: (base: string | null) => void
  /** The branch of the remote to work on, empty until one is chosen; null = a new branch. */
  existing: string | null
  onExisting: (branch: string | null) => void
  /** Why the choice cannot be sent. */
  problem: string | undefined
}

/** The branch of the work: a new one with its base, or one of the remote. */
export function BranchField({ repositoryId, base, onBase, existing, onExisting, problem }: Props) {
  const branches = useBranches(repositoryId)
  return (
    <div>
      <SegmentedControl
        size="xs"
        aria-label="Branch of the work"
        className={classes.place}
        value={existing === null ? 'new' : 'existing'}
        onChange={(it) => onExisting(it === 'new' ? null : '')}
        data={[
          { value: 'new', label: 'New branch' },
          { value: 'existing', label: 'Existing branch' },
        ]}
      />
      {existing === null ? (
        <BaseField branches={branches} value={base} onChange={onBase} />
      ) : (
        <ExistingField branches={branches} value={existing} onChange={onExisting} problem={problem} />
      )}
    </div>
  )
}

interface Branches {
  names: readonly string[]
  fallback: string
  loading: boolean
  error: string | undefined
}

/** The branches of the mirror. */
function useBranches(repositoryId: string): Branches {
  const client = useFoundry()
  const { repositories } = useOrganization()
  const fallback = repositories.find((it) => it.repositoryId === repositoryId)?.defaultBranch ?? ''
  const read = useRead(repositoryId, (signal) => client.repo.listBranches({ repositoryId, pageSize: BRANCHES }, { signal }))
  const names = [...new Set(read.data?.branches.map((it) => it.name))]
  return { names, fallback, loading: read.loading, error: readError(read) }
}

const option = (name: string) => ({ value: name, label: visibleLine(name) })

interface BaseProps {
  branches: Branches
  value: string | null
  onChange: (base: string | null) => void
}

function BaseField({ branches, value, onChange }: BaseProps) {
  const { names, fallback, loading, error } = branches
  return (
    <Select
      label="Base branch"
      placeholder={fallback === '' ? 'Default branch' : `${visibleLine(fallback)} (default)`}
      data={names.map(option)}
      value={value}
      onChange={onChange}
      searchable
      clearable
      limit={100}
      nothingFoundMessage={loading ? 'Loading branches…' : 'No such branch in the mirror'}
      error={error}
    />
  )
}

interface ExistingProps {
  branches: Branches
  value: string
  onChange: (branch: string) => void
  problem: string | undefined
}

/** One of the mirror's branches, or a name that is typed: the remote may have it. */
function ExistingField({ branches, value, onChange, problem }: ExistingProps) {
  return (
    <Autocomplete
      label="Branch to work on"
      placeholder="Name of a branch"
      description="The task starts at its tip and is published there. One that is not listed is looked for at the remote."
      inputWrapperOrder={['label', 'input', 'description', 'error']}
      // A name that is not what it looks like has to be chosen in the list of branches.
      data={branches.names.filter((name) => visibleLine(name) === name)}
      value={visibleLine(value)}
      onChange={(name) => onChange(name.trim())}
      limit={100}
      error={problem ?? branches.error}
    />
  )
}
