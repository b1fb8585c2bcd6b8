import { ActionIcon, Button } from '@mantine/core'
import type { BranchOverview, Divergence, Repository } from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import type { TaskSummary } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { IconAlertTriangle, IconDots, IconGitBranch, IconStack2 } from '@tabler/icons-react'
import { useMemo, useState } from 'react'
import { Link } from 'wouter'
import { paths } from '../app/paths'
import { useFrame } from '../shell/frame'
import { DiffStat, EmptyState, RelativeTime, sentence, TextSkeleton, useFocusBack } from '../ui'
import { PullRequestLink } from '../ui/PullRequestLink'
import { visibleLine } from '../ui/text/visible'
import { ActionDialog } from './actions'
import classes from './RepositoryPage.module.css'
import { stackTree, type Placed } from './stack'

/** Rows that are shown at first, and with each press of "Show more". */
const PAGE = 200
/** Deepest indentation, so that a long stack stays on the screen. */
const DEEPEST = 12

interface Props {
  repository: Repository
  branches: readonly BranchOverview[]
  tasks: readonly TaskSummary[]
}

/** The branches as stacks: each below the branch that it stands on, with what it changes and its task. */
export function StackTree({ repository, branches, tasks }: Props) {
  const [shown, setShown] = useState(PAGE)
  const placed = useMemo(() => stackTree(branches), [branches])
  const [acting, setActing] = useState<string>()
  useFocusBack(acting !== undefined)
  const { canWrite } = useFrame()
  const owners = useMemo(() => new Map(tasks.map((task) => [task.taskId, task])), [tasks])
  const { overview } = repository
  if (
    branches.length === 0 &&
    overview?.completeTime === undefined &&
    repository.syncTime !== undefined &&
    overview?.leftOut === undefined
  ) {
    return (
      <div style={{ padding: 16 }}>
        <TextSkeleton lines={6} label="Comparing the branches" />
      </div>
    )
  }
  return (
    <>
      {overview?.computing === true && overview.total > 0 && (
        <p role="status" className={classes.more}>
          Comparing branches: {overview.done} of {overview.total}
        </p>
      )}
      {overview?.leftOut !== undefined && (
        <p role="status" className={classes.more}>
          {visibleLine(sentence(overview.leftOut.message))}
        </p>
      )}
      {branches.length === 0 ? (
        <EmptyState icon={IconGitBranch} title="No branches">
          {repository.syncTime === undefined ? 'The mirror is not ready. Branches appear here automatically.' : 'It has no branches.'}
        </EmptyState>
      ) : (
        <Table
          placed={placed.slice(0, shown)}
          owners={owners}
          organizationId={repository.organizationId}
          onAct={canWrite ? setActing : undefined}
        />
      )}
      {(placed.length > 0 || canWrite) && (
        <div className={classes.more}>
          {placed.length > 0 && (
            <span role="status">
              {placed.length > shown
                ? `${shown} of ${placed.length} branches`
                : `${placed.length} ${placed.length === 1 ? 'branch' : 'branches'}`}
            </span>
          )}
          {placed.length > shown && (
            <Button variant="default" onClick={() => setShown(shown + PAGE)}>
              Show more
            </Button>
          )}
          {canWrite && (
            <Button variant="default" leftSection={<IconStack2 size={14} />} onClick={() => setActing('')}>
              Actions on all branches…
            </Button>
          )}
        </div>
      )}
      {acting !== undefined && (
        <ActionDialog repository={repository} branches={branches} branch={acting} onClose={() => setActing(undefined)} />
      )}
    </>
  )
}

interface TableProps {
  placed: readonly Placed[]
  owners: ReadonlyMap<string, TaskSummary>
  organizationId: string
  /** Opens the actions on a branch; undefined for people who may only read. */
  onAct: ((branch: string) => void) | undefined
}

function Table({ placed, owners, organizationId, onAct }: TableProps) {
  return (
    <div className={classes.tableWrap}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">Branch</th>
            <th scope="col" className={classes.apart}>
              Commits
            </th>
            <th scope="col" className={`${classes.size} ${classes.wide}`}>
              Lines
            </th>
            <th scope="col" className={classes.wide}>
              Last change
            </th>
            <th scope="col" className={`${classes.age} ${classes.wide}`}>
              Age
            </th>
          </tr>
        </thead>
        <tbody>
          {placed.map(({ branch, depth }) => (
            <Row
              key={branch.name}
              branch={branch}
              depth={depth}
              owner={owners.get(branch.taskId)}
              organizationId={organizationId}
              onAct={onAct}
            />
          ))}
        </tbody>
      </table>
    </div>
  )
}

interface RowProps {
  branch: BranchOverview
  depth: number
  owner: TaskSummary | undefined
  organizationId: string
  onAct: ((branch: string) => void) | undefined
}

function Row({ branch, depth, owner, organizationId, onAct }: RowProps) {
  const name = visibleLine(branch.name)
  const on = branch.parent === '' ? '' : `, on ${visibleLine(branch.parent)}`
  return (
    <tr>
      <td className={classes.cell} title={`${name}${on}`} style={{ paddingInlineStart: 12 + 16 * Math.min(depth, DEEPEST) }}>
        <div className={classes.head}>
          <bdi className={`${classes.branch} ${classes.shrinks}`}>{name}</bdi>
          <Marks branch={branch} />
          {onAct !== undefined && !branch.isDefault && !branch.workOnly && (
            <ActionIcon size="sm" variant="subtle" aria-label={`Actions on ${name}`} onClick={() => onAct(branch.name)}>
              <IconDots size={14} aria-hidden />
            </ActionIcon>
          )}
        </div>
        {branch.pullRequest !== undefined && (
          <div className={`${classes.base} ${classes.wraps}`}>
            <PullRequestLink pullRequest={branch.pullRequest} />
          </div>
        )}
        <div className={classes.narrow}>
          <Change branch={branch} owner={owner} organizationId={organizationId} />
        </div>
      </td>
      <td className={classes.apart}>
        <Apart from={branch.fromParent} what={visibleLine(branch.parent)} />
        {branch.fromBase !== undefined && !same(branch.fromParent, branch.fromBase) && (
          <div className={classes.base}>
            <Apart from={branch.fromBase} what="the default branch" />
          </div>
        )}
      </td>
      <td className={classes.wide}>
        {branch.changes !== undefined && <DiffStat additions={branch.changes.additions} deletions={branch.changes.deletions} />}
      </td>
      <td className={`${classes.cell} ${classes.wide}`} title={visibleLine(branch.subject)}>
        <Change branch={branch} owner={owner} organizationId={organizationId} />
      </td>
      <td className={`${classes.age} ${classes.wide}`}>
        <RelativeTime time={branch.commitTime} />
      </td>
    </tr>
  )
}

function same(a: Divergence | undefined, b: Divergence): boolean {
  return a?.ahead === b.ahead && a.behind === b.behind
}

/** So many commits are counted; it stands for that many or more. */
const counted = 20_000

function commits(count: number): string {
  return count >= counted ? `${counted.toLocaleString('en')}+` : String(count)
}

function Apart({ from, what }: { from: Divergence | undefined; what: string }) {
  if (from === undefined) return null
  const [ahead, behind] = [commits(from.ahead), commits(from.behind)]
  const label = `${ahead} ahead of ${what}, ${behind} behind`
  return (
    <span role="img" aria-label={label} title={label}>
      ↑{ahead} ↓{behind}
    </span>
  )
}

/** What is unusual about a branch. */
function Marks({ branch }: { branch: BranchOverview }) {
  const marks: string[] = []
  if (branch.isDefault) marks.push('default')
  if (branch.merged) marks.push('merged')
  if (branch.unpublished) marks.push('nothing published yet')
  if (branch.unrelated) marks.push('unrelated')
  if (branch.workOnly) marks.push('only in Foundry')
  const { conflicts, leftOut, parent, fromParent } = branch
  const behind = branch.merged ? 0 : (fromParent?.behind ?? 0)
  const files = conflicts?.files.map(visibleLine).join(', ') ?? ''
  return (
    <>
      {marks.map((mark) => (
        <span key={mark} className={classes.default}>
          {mark}
        </span>
      ))}
      {behind > 0 && (
        <span className={classes.behind}>
          {commits(behind)} behind <bdi>{visibleLine(parent)}</bdi>
        </span>
      )}
      {conflicts !== undefined && (
        <span className={classes.conflict} title={`Conflicts with the default branch in ${files}`}>
          <IconAlertTriangle size={12} aria-hidden /> {conflicts.count === 1 ? '1 conflict' : `${conflicts.count} conflicts`}
          <span className="fd-visually-hidden"> with the default branch in {files}</span>
        </span>
      )}
      {leftOut !== undefined && (
        <span className={classes.default} title={visibleLine(sentence(leftOut.message))}>
          incomplete
        </span>
      )}
    </>
  )
}

/** The last change of a branch; for the branch of a task, the task. */
function Change({ branch, owner, organizationId }: Omit<RowProps, 'depth' | 'onAct'>) {
  if (branch.taskId === '') return <bdi>{visibleLine(branch.subject)}</bdi>
  return (
    <Link href={paths.task(organizationId, branch.taskId)}>
      <bdi>{visibleLine(owner?.title ?? branch.subject)}</bdi>
    </Link>
  )
}
