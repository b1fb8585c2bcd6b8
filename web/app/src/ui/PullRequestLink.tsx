import { ChecksState, PullRequestReview, PullRequestState, type PullRequest } from '@foundry/client/gen/foundry/common/v1/work_pb'
import { visibleLine } from './text/visible'

const checks: Record<ChecksState, (p: PullRequest) => string | undefined> = {
  [ChecksState.UNSPECIFIED]: () => undefined,
  [ChecksState.NONE]: () => 'no checks',
  [ChecksState.PENDING]: (p) => `${p.checks?.pending ?? 0} of ${total(p)} checks pending`,
  [ChecksState.FAILED]: (p) => `${p.checks?.failed ?? 0} of ${total(p)} checks failed`,
  [ChecksState.PASSED]: () => 'checks passed',
}

const reviews: Record<PullRequestReview, string | undefined> = {
  [PullRequestReview.UNSPECIFIED]: undefined,
  [PullRequestReview.NONE]: undefined,
  [PullRequestReview.REQUIRED]: 'review requested',
  [PullRequestReview.APPROVED]: 'approved',
  [PullRequestReview.CHANGES_REQUESTED]: 'changes requested',
}

function total({ checks: of }: PullRequest): number {
  return of === undefined ? 0 : of.passed + of.failed + of.pending
}

/** How a pull request stands, as in `open, 1 of 3 checks failed, approved`. */
export function pullRequestText(p: PullRequest): string {
  if (p.state === PullRequestState.MERGED) return 'merged'
  if (p.state === PullRequestState.CLOSED) return 'closed'
  const parts = [p.draft ? 'draft' : 'open', checks[p.checks?.state ?? ChecksState.UNSPECIFIED](p), reviews[p.review]]
  return parts.filter((part) => part !== undefined).join(', ')
}

/** A pull request with its state; a link to it if its address is one of the web. */
export function PullRequestLink({ pullRequest }: { pullRequest: PullRequest }) {
  const name = `Pull request #${pullRequest.number}`
  const failing = pullRequest.checks?.failing.map(visibleLine).join(', ') ?? ''
  const title = [visibleLine(pullRequest.title), failing === '' ? '' : `failed: ${failing}`].filter((it) => it !== '').join('; ')
  return (
    <span title={title}>
      {/^https?:\/\//.test(pullRequest.url) ? (
        <a href={pullRequest.url} target="_blank" rel="noopener noreferrer">
          {name}
        </a>
      ) : (
        name
      )}{' '}
      <span className="fd-muted">{pullRequestText(pullRequest)}</span>
    </span>
  )
}
