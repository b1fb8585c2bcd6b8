import type { Timestamp } from '@bufbuild/protobuf/wkt'
import type { Condition } from '@foundry/client/gen/foundry/common/v1/common_pb'
import {
  BranchSyncSource,
  BranchSyncStatus,
  PullRequestSyncSource,
  RepositoryState,
  type PullRequestReading,
  type PullRequestSync,
  type Repository,
} from '@foundry/client/gen/foundry/repo/v1/repo_pb'
import { asksForSomething, millis, RelativeTime, sentence } from '../ui'
import { visibleLine } from '../ui/text/visible'
import { fullTime, spanText, useNow } from '../ui/time'
import classes from './RepositoryPage.module.css'

const BRANCH_SOURCES: Partial<Record<BranchSyncSource, string>> = {
  [BranchSyncSource.POLL]: 'by polling',
  [BranchSyncSource.TASK]: 'for a task',
  [BranchSyncSource.REQUEST]: 'on request',
  [BranchSyncSource.WEBHOOK]: 'by a webhook',
}

const PULL_SOURCES: Partial<Record<PullRequestSyncSource, string>> = {
  [PullRequestSyncSource.POLL]: 'by polling',
  [PullRequestSyncSource.JOB]: 'by a job',
  [PullRequestSyncSource.WEBHOOK]: 'by a webhook',
}

/** Changes that a webhook has announced within this time let the host be polled less often. */
const ANNOUNCED_MS = 24 * 3_600_000

/** How new branches and pull requests are, why nothing newer is known, and what happens next. */
export function Freshness({ repository }: { repository: Repository }) {
  const { branchSync, pullRequestSync, syncTime, defaultBranch } = repository
  const condition = branchSync?.stale ?? repository.condition
  const error = repository.state === RepositoryState.ERROR || branchSync?.status === BranchSyncStatus.STALE
  const announced = useNow(60_000) - (millis(branchSync?.announceTime) ?? 0) < ANNOUNCED_MS
  return (
    <>
      <dl className={classes.facts} aria-label="Freshness">
        {defaultBranch !== '' && (
          <>
            <dt>Default branch</dt>
            <dd className="fd-mono">
              <bdi>{visibleLine(defaultBranch)}</bdi>
            </dd>
          </>
        )}
        <dt>Branches</dt>
        <dd>
          <AsOf time={branchSync?.asOf ?? syncTime} source={BRANCH_SOURCES[branchSync?.source ?? BranchSyncSource.UNSPECIFIED]} />
          <Reading since={branchSync?.runningSince} />
          <Next attempt={condition?.nextAttemptTime} refresh={branchSync?.nextRefreshTime} />
          {announced && ', or when a webhook announces a change'}
          {condition !== undefined && condition.attempt > 1 && `, attempt ${condition.attempt}`}
          {condition !== undefined && condition.attempt > 1 && condition.maxAttempts > 0 && ` of ${condition.maxAttempts}`}
        </dd>
        {pullRequestSync !== undefined && <PullRequests sync={pullRequestSync} />}
      </dl>
      {condition !== undefined && condition.message !== '' && (
        <Why condition={condition} since={branchSync?.stale?.sinceTime} error={error} />
      )}
      {pullRequestSync?.stale !== undefined && (
        <Why
          condition={pullRequestSync.stale}
          since={pullRequestSync.stale.sinceTime}
          // Many public repositories are used without their pull requests.
          error={pullRequestSync.stale.reason !== 'FORGE_CREDENTIALS_REQUIRED'}
          what="Pull requests"
        />
      )}
      {pullRequestSync?.leftOut !== undefined && (
        <Why condition={pullRequestSync.leftOut} since={pullRequestSync.leftOut.sinceTime} error what="Checks and reviews" />
      )}
    </>
  )
}

/** How many pull requests are open, how new that is, and how many more calls the host answers. */
function PullRequests({ sync }: { sync: PullRequestSync }) {
  const { asOf, source, openCount, truncated, stale, reading, unreadCount, nextRefreshTime, apiLimit, apiRemaining, apiResetTime } = sync
  return (
    <>
      <dt>Pull requests</dt>
      <dd>
        {asOf !== undefined && `${openCount}${truncated ? ' and more' : ''} open, `}
        <AsOf time={asOf} source={PULL_SOURCES[source]} />
        <Reading since={reading?.startTime} howFar={reading === undefined ? undefined : howFarText(reading)} />
        {unreadCount > 0 && `; checks of ${unreadCount} not read yet`}
        <Next attempt={stale?.nextAttemptTime} refresh={nextRefreshTime} />
      </dd>
      {apiLimit > 0 && (
        <>
          <dt>Calls left at the host</dt>
          <dd>
            {`${apiRemaining} of ${apiLimit}`}
            {apiResetTime !== undefined && <Soon time={apiResetTime} what="all of them again" ahead />}
          </dd>
        </>
      )}
    </>
  )
}

function AsOf({ time, source }: { time: Timestamp | undefined; source: string | undefined }) {
  if (time === undefined) return 'not read yet'
  return (
    <>
      as of <RelativeTime time={time} ago />
      {source !== undefined && `, ${source}`}
    </>
  )
}

/** How far a reading of pull requests is, as in `30 of 50`. */
function howFarText({ done, total }: PullRequestReading): string {
  return total === 0 ? `${done} listed` : `${done} of ${total}`
}

/** Since when something is being read, if it is. */
function Reading({ since, howFar }: { since: Timestamp | undefined; howFar?: string | undefined }) {
  if (since === undefined) return null
  return (
    <>
      ; being read since <RelativeTime time={since} ago />
      {howFar !== undefined && `, ${howFar}`}
    </>
  )
}

function Next({ attempt, refresh }: { attempt: Timestamp | undefined; refresh: Timestamp | undefined }) {
  const time = attempt ?? refresh
  return time === undefined ? null : <Soon time={time} what={attempt === undefined ? 'next refresh' : 'next attempt'} />
}

/** When something happens; nothing about a time that has passed if it must be `ahead`. */
function Soon({ time, what, ahead = false }: { time: Timestamp; what: string; ahead?: boolean }) {
  const [at, now] = [millis(time), useNow()]
  if (at <= now && ahead) return null
  return <span title={fullTime(at)}>{`; ${what} ${at <= now ? 'now' : `in ${spanText(at - now + 999)}`}`}</span>
}

interface WhyProps {
  condition: Condition
  since: Timestamp | undefined
  error: boolean
  what?: string
}

/** Why something is not newer, since when, and what to do about it. */
function Why({ condition, since, error, what }: WhyProps) {
  return (
    <div className={classes.condition} data-error={error} role="status">
      <p>
        {what !== undefined && <strong>{what}: </strong>}
        {visibleLine(sentence(condition.message))}{' '}
        {since !== undefined && (
          <>
            (since <RelativeTime time={since} ago />){' '}
          </>
        )}
        {condition.reason !== '' && <span className={classes.reason}>{condition.reason}</span>}
      </p>
      {asksForSomething(condition) && <p>{visibleLine(sentence(condition.nextAction))}</p>}
    </div>
  )
}
