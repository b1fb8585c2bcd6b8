import { Button, Checkbox, Group, Modal, Stack, Textarea, TextInput } from '@mantine/core'
import { WorkNoticeKind } from '@foundry/client/gen/foundry/common/v1/work_pb'
import { useFoundry } from '@foundry/client/react'
import { JobBranchState, type Job } from '@foundry/client/gen/foundry/repo/v1/job_pb'
import type { Task } from '@foundry/client/gen/foundry/task/v1/task_pb'
import type { ProposePublicationResponse } from '@foundry/client/gen/foundry/task/v1/task_service_pb'
import { useId, useState, type SubmitEvent } from 'react'
import { useCommand } from '../../state/command'
import { useRead } from '../../state/read'
import { ErrorState, sentence } from '../../ui'
import { Notices } from '../panel/changes/Notices'
import { isOpen, JobView } from './JobView'
import { useAuthor } from './useAuthor'
import { useJobs } from './useJobs'
import { isOutstanding } from './words'

interface Props {
  task: Task
  /** Whether to open a pull request for the branch too. */
  pullRequest: boolean
  opened: boolean
  onClose: () => void
}

/** Where the branch is by the plan or refusal that is shown; empty if none is. */
function shownTip(job: Job | undefined, name: string): string {
  const branch = job?.branches.find((it) => it.branch === name)
  if (branch?.state === JobBranchState.PLANNED) {
    return branch.oldCommit
  }
  return branch?.state === JobBranchState.REFUSED ? branch.foundCommit : ''
}

/** Whether an operation of git stopped at conflicts, so that files of the work have their markers. */
function hasConflicts({ changes }: Task): boolean {
  return changes?.notices.some(({ kind, count }) => kind === WorkNoticeKind.OPERATION && count > 0n) === true
}

/** The message of the commit that is proposed, to be edited. */
function proposedMessage({ title, body }: ProposePublicationResponse): string {
  return body === '' ? title : `${title}\n\n${body}`
}

/** State of the form, and how it is sent. */
function usePublish(task: Task, pullRequest: boolean) {
  const client = useFoundry()
  const author = useAuthor()
  const [branch, setBranch] = useState(task.branch)
  const proposal = useRead(task.taskId, (signal) => client.task.proposePublication({ taskId: task.taskId }, { signal }))
  const [edited, setMessage] = useState<string | undefined>(undefined)
  const message = edited ?? (proposal.data === undefined ? task.title : proposedMessage(proposal.data))
  const [allowConflicts, setAllowConflicts] = useState(false)
  const [squash, setSquash] = useState(false)
  const [force, setForce] = useState(false)
  const [wanted, setWanted] = useState({ title: '', body: '', draft: false })
  const jobs = useJobs(task)
  const publish = useCommand(
    'The branch was not published',
    (requestId: string, planOnly: boolean, it: object): Promise<object> =>
      pullRequest && !planOnly
        ? client.repo.publishPullRequest({ ...it, ...wanted, planOnly, requestId })
        : client.repo.publishBranch({ ...it, planOnly, requestId }),
  )
  const send = async (planOnly: boolean) => {
    author.remember()
    const name = branch.trim()
    await publish.run(planOnly, {
      taskId: task.taskId,
      toBranch: name === task.branch ? '' : name,
      message,
      squash,
      force,
      allowConflicts: allowConflicts && hasConflicts(task),
      expectedCommit: force ? shownTip(jobs[0], name) : '',
      authorName: author.name,
      authorEmail: author.email,
      agent: task.agent,
    })
  }
  const refused = (field: string) => {
    const why = publish.error?.fields.find((it) => it.field === field)?.description
    return why === undefined ? undefined : sentence(why)
  }
  return {
    branch,
    setBranch,
    message,
    setMessage,
    squash,
    setSquash,
    force,
    setForce,
    allowConflicts,
    setAllowConflicts,
    wanted,
    setWanted,
    author,
    job: jobs[0],
    publish,
    send,
    refused,
  }
}

/** Publishes the work of a task as a branch of the remote, with a pull request if that is wanted; shows the plan, how far it is, and a refusal in the host's words. */
function PublishForm({ task, pullRequest, opened, onClose }: Props) {
  return (
    <Modal opened={opened} onClose={onClose} title={pullRequest ? 'Publish pull request' : 'Publish branch'} size="lg">
      {opened && <Form task={task} pullRequest={pullRequest} onClose={onClose} />}
    </Modal>
  )
}

function Form({ task, pullRequest, onClose }: Omit<Props, 'opened'>) {
  const it = usePublish(task, pullRequest)
  const { publish, author, job, refused } = it
  const atFields = ['to_branch', 'message', 'author_name', 'author_email', 'title', 'body'].some((field) => refused(field) !== undefined)
  const busy = publish.busy || (job !== undefined && isOpen(job))
  const outstanding = isOutstanding(task)
  const lacking = useId()
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (!outstanding) void it.send(false)
  }
  return (
    <form onSubmit={submit} noValidate>
      <Stack gap="sm">
        <TextInput
          label="Branch"
          description="At the remote. A branch that exists there already is pushed to only if this task has published it, or if you name another than the task's."
          autoCapitalize="none"
          autoComplete="off"
          spellCheck={false}
          data-autofocus
          value={it.branch}
          onChange={(event) => it.setBranch(event.currentTarget.value)}
          error={refused('to_branch')}
        />
        <Textarea
          label="Commit message"
          description="Proposed from what the agent has said last. For what it has not committed; its own commits keep theirs"
          autosize
          minRows={2}
          maxRows={8}
          maxLength={4000}
          value={it.message}
          onChange={(event) => it.setMessage(event.currentTarget.value)}
          error={refused('message')}
        />
        <Group grow align="flex-start" gap="sm">
          <TextInput
            label="Author"
            maxLength={100}
            value={author.name}
            onChange={(event) => author.set(event.currentTarget.value, author.email)}
            error={refused('author_name')}
          />
          <TextInput
            label="Author's e-mail address"
            type="email"
            maxLength={254}
            value={author.email}
            onChange={(event) => author.set(author.name, event.currentTarget.value)}
            error={refused('author_email')}
          />
        </Group>
        {pullRequest && <PullRequestFields it={it} />}
        <Checkbox label="Squash into one commit" checked={it.squash} onChange={(event) => it.setSquash(event.currentTarget.checked)} />
        <Checkbox
          label="Replace commits of the branch (force, if nobody has pushed since)"
          checked={it.force}
          onChange={(event) => it.setForce(event.currentTarget.checked)}
        />
        <Notices changes={task.changes} />
        {outstanding && (
          <p id={lacking} role="status" className="fd-muted" style={{ margin: 0 }}>
            What the agent has changed last has not arrived yet. It can be published in a moment; now it would be left out.
          </p>
        )}
        {hasConflicts(task) && (
          <Checkbox
            label="Publish the files with their conflict markers"
            description="The agent has not finished an operation of git; better let it finish or abort it first"
            checked={it.allowConflicts}
            onChange={(event) => it.setAllowConflicts(event.currentTarget.checked)}
          />
        )}
        {publish.error !== undefined && !atFields && <ErrorState error={publish.error} title="The branch was not published" compact />}
        {job !== undefined && <JobView job={job} />}
      </Stack>
      <Group justify="flex-end" gap="xs" mt="lg">
        <Button variant="default" size="sm" onClick={onClose}>
          Close
        </Button>
        <Button variant="default" size="sm" disabled={busy} onClick={() => void it.send(true)}>
          Show plan
        </Button>
        {outstanding && (
          <Button variant="default" size="sm" disabled={busy} onClick={() => void it.send(false)}>
            Publish without it
          </Button>
        )}
        <Button type="submit" size="sm" loading={busy || outstanding} aria-describedby={outstanding ? lacking : undefined}>
          Publish
        </Button>
      </Group>
    </form>
  )
}

function PullRequestFields({ it }: { it: ReturnType<typeof usePublish> }) {
  const { wanted, setWanted, refused } = it
  return (
    <>
      <TextInput
        label="Title of the pull request"
        placeholder={it.message.split('\n', 1)[0]}
        description="One that exists keeps its title and text unless you give others"
        maxLength={250}
        value={wanted.title}
        onChange={(event) => setWanted({ ...wanted, title: event.currentTarget.value })}
        error={refused('title')}
      />
      <Textarea
        label="Text of the pull request"
        placeholder="The rest of the commit message, and the commits"
        autosize
        minRows={2}
        maxRows={8}
        maxLength={16_000}
        value={wanted.body}
        onChange={(event) => setWanted({ ...wanted, body: event.currentTarget.value })}
        error={refused('body')}
      />
      <Checkbox
        label="Mark a new pull request as a draft"
        checked={wanted.draft}
        onChange={(event) => setWanted({ ...wanted, draft: event.currentTarget.checked })}
      />
    </>
  )
}

export default PublishForm
