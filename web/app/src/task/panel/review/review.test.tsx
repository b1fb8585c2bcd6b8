import { create } from '@bufbuild/protobuf'
import { Code, FoundryError, topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import {
  FileChangeSchema,
  PlacedReviewCommentSchema,
  QueuedMessageSchema,
  ReviewCommentSchema,
  ReviewPlace,
  ReviewSide,
  UserStateItemSchema,
  ViewedFileSchema,
  type FileChange,
  type ReviewComment,
  type Task,
  type UserStateItem,
} from '@foundry/client/gen/foundry/task/v1/task_pb'
import { MantineProvider } from '@mantine/core'
import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { shellItems, type FakeCalls } from '../../../test/fakeFoundry'
import { aSession, aTask, FakeTask } from '../../test/fakeTask'
import Changes from '../changes/Changes'
import { parsePatch } from '../changes/parse'
import { reviewParts } from './message'
import { keyOf, linesOf, numberOn, rangeNow, rangeOf, rangeWords } from './places'
import { newCommentId } from './useReview'

const PATCH = 'diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n+three\n last\n'

beforeEach(() => {
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockReturnValue(600)
  vi.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(800)
})

afterEach(() => sessionStorage.clear())

const file = (path: string, rest: object = {}): FileChange =>
  create(FileChangeSchema, { path, kind: 'modified', patchSize: 99_999n, content: `${path} 1`, ...rest })
const comment = (id: string, rest: object = {}): ReviewComment =>
  create(ReviewCommentSchema, {
    commentId: id,
    taskId: 'task_1',
    path: 'a.rs',
    side: ReviewSide.NEW,
    startLine: 2,
    endLine: 2,
    version: 1n,
    content: 'a.rs 1',
    quote: '2',
    text: 'Why?',
    ...rest,
  })
const kept = (value: ReviewComment): [string, UserStateItem] => [
  `comment/${value.commentId}`,
  create(UserStateItemSchema, { item: { case: 'reviewComment', value } }),
]
const viewed = (path: string, content: string): [string, UserStateItem] => [
  `viewed/${path}`,
  create(UserStateItemSchema, { item: { case: 'viewedFile', value: create(ViewedFileSchema, { path, content }) } }),
]

function show(
  calls: FakeCalls['task'] = {},
  items: [string, UserStateItem][] = [],
  task: Task = aTask({ changes: { version: 1n, filesChanged: 1 } }),
) {
  const world = new FakeTask({
    task: {
      listFileChanges: () => ({ files: [file('a.rs')], nextPageToken: '' }),
      getFileDiff: () => ({ patch: new TextEncoder().encode(PATCH), file: file('a.rs'), version: 1n }),
      updateDraft: () => ({ rev: 1n }),
      ...calls,
    },
  })
  world.fake.show(topics.appShell(), shellItems([{ id: 'org_1', name: 'acme', role: 2 }]))
  world.fake.show(topics.userState('org_1'), [])
  world.fake.show(topics.review('org_1', 'task_1'), items)
  const page = (shown: Task) => (
    <MantineProvider env="test">
      <FoundryProvider client={world.client}>
        <Changes task={shown} sessions={[aSession()]} />
      </FoundryProvider>
    </MantineProvider>
  )
  const { rerender } = render(page(task))
  return { world, again: (next: Task) => rerender(page(next)) }
}

const made = (world: FakeTask, method: string) =>
  world.fake.made.filter((call) => call.method === method).map((call) => call.request as Record<string, unknown>)
const opened = async () => {
  fireEvent.click(await screen.findByRole('button', { name: /a\.rs/, expanded: false }))
  return await screen.findByRole('region', { name: 'Diff of a.rs' })
}
/** The cell with the number of a line of the new side. */
const gutter = (diff: HTMLElement, line: number) =>
  [...diff.querySelectorAll(`.diff-gutter[data-change-key="I${line}"]`)].at(-1) as HTMLElement
const putComment = (request: Record<string, unknown>) => ({ comment: comment(String(request.commentId), request), rev: 5n })

describe('a comment', () => {
  it('on a range of lines is kept by Ctrl+Enter, and shown below them before the watch has it', async () => {
    const { world } = show({ putReviewComment: putComment })
    const diff = await opened()
    fireEvent.click(gutter(diff, 2))
    fireEvent.click(gutter(diff, 3), { shiftKey: true })
    const field = await screen.findByRole('textbox', { name: 'Comment on lines 2–3' })
    fireEvent.change(field, { target: { value: 'Say why.' } })
    fireEvent.keyDown(field, { key: 'Enter', ctrlKey: true })
    await screen.findByRole('article', { name: 'Your comment on lines 2–3' })
    expect(screen.queryByRole('textbox')).toBeNull()
    expect(made(world, 'putReviewComment')).toMatchObject([
      { taskId: 'task_1', path: 'a.rs', side: ReviewSide.NEW, startLine: 2, endLine: 3, content: 'a.rs 1', text: 'Say why.' },
    ])
    expect(screen.getByText('1 comment, 0 of 1 viewed')).toBeTruthy()
  })

  it('on lines that were chosen by keys is begun by c, and what is written is there again after a reload', async () => {
    const { world } = show({ putReviewComment: putComment })
    const diff = await opened()
    for (const key of ['ArrowDown', 'ArrowDown']) fireEvent.keyDown(diff, { key })
    fireEvent.keyDown(diff, { key: 'c' })
    fireEvent.change(await screen.findByRole('textbox', { name: 'Comment on line 2 before the change' }), { target: { value: 'Keep' } })
    fireEvent.click(gutter(diff, 3))
    expect(screen.queryByRole('textbox', { name: 'Comment on line 3' })).toBeNull()
    fireEvent.click(screen.getByRole('button', { name: /a\.rs/, expanded: true }))
    await opened()
    expect((screen.getByRole('textbox', { name: 'Comment on line 2 before the change' }) as HTMLTextAreaElement).value).toBe('Keep')
    expect(made(world, 'putReviewComment')).toEqual([])
  })

  it('on a file that has changed since stays in its field with the reason, and is of the new file the next time', async () => {
    let refuse = true
    const putReviewComment = (request: Record<string, unknown>) => {
      if (refuse) throw new FoundryError({ code: Code.FailedPrecondition, reason: 'REVIEW_FILE_CHANGED', message: 'it has changed' })
      return putComment(request)
    }
    let content = 'a.rs 1'
    const getFileDiff = () => ({ patch: new TextEncoder().encode(PATCH), file: file('a.rs', { content }), version: 1n })
    const { world, again } = show({ putReviewComment, getFileDiff })
    fireEvent.click(gutter(await opened(), 3))
    const field = await screen.findByRole('textbox', { name: 'Comment on line 3' })
    fireEvent.change(field, { target: { value: 'x' } })
    fireEvent.keyDown(field, { key: 'Enter', ctrlKey: true })
    await screen.findByText('REVIEW_FILE_CHANGED')
    content = 'a.rs 2'
    again(aTask({ changes: { version: 2n, filesChanged: 1 } }))
    await waitFor(() => expect(made(world, 'getFileDiff')).toHaveLength(2))
    await act(async () => undefined)
    fireEvent.keyDown(screen.getByRole('textbox', { name: 'Comment on line 3' }), { key: 'Enter', ctrlKey: true })
    await waitFor(() => expect(made(world, 'putReviewComment')).toHaveLength(2))
    await screen.findByText('REVIEW_FILE_CHANGED')
    refuse = false
    fireEvent.keyDown(screen.getByRole('textbox', { name: 'Comment on line 3' }), { key: 'Enter', ctrlKey: true })
    await screen.findByRole('article', { name: 'Your comment on line 3' })
    expect(made(world, 'putReviewComment').at(-1)).toMatchObject({ content: 'a.rs 2', text: 'x' })
  })

  it('is changed and deleted', async () => {
    const deleteReviewComment = () => ({ rev: 7n })
    const { world } = show({ putReviewComment: putComment, deleteReviewComment }, [kept(comment('rvc_1'))])
    await opened()
    fireEvent.click(screen.getByRole('button', { name: 'Edit the comment on line 2' }))
    const field = screen.getByRole('textbox', { name: 'Comment on line 2' })
    fireEvent.change(field, { target: { value: 'How?' } })
    fireEvent.keyDown(field, { key: 'Enter', ctrlKey: true })
    expect((await screen.findByRole('article', { name: 'Your comment on line 2' })).textContent).toContain('How?')
    expect(made(world, 'putReviewComment')).toMatchObject([{ commentId: 'rvc_1', text: 'How?' }])
    fireEvent.click(screen.getByRole('button', { name: 'Delete the comment on line 2' }))
    await waitFor(() => expect(screen.queryByText('How?')).toBeNull())
    expect(screen.getByText('No comments, 0 of 1 viewed')).toBeTruthy()
  })

  it('whose lines have changed or moved says so, with what it was made on, and is on no other line', async () => {
    const before = { content: 'a.rs 0' }
    const items = [
      kept(comment('rvc_1', { ...before, quote: 'gone' })),
      kept(comment('rvc_2', { ...before, quote: 'three', text: 'Moved.' })),
    ]
    const places = [
      create(PlacedReviewCommentSchema, { comment: comment('rvc_1'), place: ReviewPlace.OUTDATED }),
      create(PlacedReviewCommentSchema, { comment: comment('rvc_2'), place: ReviewPlace.MOVED, startLine: 3, endLine: 3 }),
    ]
    show({ listReviewComments: () => ({ comments: places }) }, items, aTask({ changes: { version: 2n, filesChanged: 1 } }))
    const diff = await opened()
    await screen.findByText(/outdated: made on version 1/)
    expect(within(diff).queryByText('Why?')).toBeNull()
    expect(screen.getByText('gone')).toBeTruthy()
    expect(within(diff).getByText('Moved.')).toBeTruthy()
    expect(within(diff).getByText('now line 3')).toBeTruthy()
  })

  it('stays where it is while its new place is looked for, and so does what is typed in it', async () => {
    let answer: (value: object) => void = () => undefined
    const listReviewComments = () => new Promise((resolve) => (answer = resolve as typeof answer))
    const getFileDiff = () => ({ patch: new TextEncoder().encode(PATCH), file: file('a.rs', { content: 'a.rs 2' }), version: 2n })
    const { world, again } = show({ listReviewComments, getFileDiff } as FakeCalls['task'], [kept(comment('rvc_1'))])
    const diff = await opened()
    fireEvent.click(within(diff).getByRole('button', { name: 'Edit the comment on line 2' }))
    fireEvent.change(within(diff).getByRole('textbox', { name: 'Comment on line 2' }), { target: { value: 'How?' } })
    again(aTask({ changes: { version: 2n, filesChanged: 1 } }))
    await waitFor(() => expect(made(world, 'listReviewComments')).toHaveLength(1))
    expect((within(diff).getByRole('textbox', { name: 'Comment on line 2' }) as HTMLTextAreaElement).value).toBe('How?')
    const place = create(PlacedReviewCommentSchema, { comment: comment('rvc_1'), place: ReviewPlace.OUTDATED })
    await act(async () => answer({ comments: [place] }))
    const field = await waitFor(() => screen.getByRole('textbox', { name: 'Comment on line 2' }) as HTMLTextAreaElement)
    expect(diff.contains(field)).toBe(false)
    expect(field.value).toBe('How?')
  })

  it('on a file that is what it was stays below its lines, whatever is known of its place', async () => {
    show(
      { listReviewComments: () => new Promise(() => undefined) } as FakeCalls['task'],
      [kept(comment('rvc_1'))],
      aTask({ changes: { version: 9n, filesChanged: 1 } }),
    )
    expect(within(await opened()).getByText('Why?')).toBeTruthy()
  })

  it('is one comment also when it is kept again after a lost answer', async () => {
    let lost = true
    const putReviewComment = (request: Record<string, unknown>) => {
      if (lost) throw new FoundryError({ code: Code.Unavailable, reason: 'UNAVAILABLE', message: 'lost' })
      return putComment(request)
    }
    const { world } = show({ putReviewComment })
    fireEvent.click(gutter(await opened(), 3))
    const field = await screen.findByRole('textbox', { name: 'Comment on line 3' })
    fireEvent.change(field, { target: { value: 'x' } })
    fireEvent.keyDown(field, { key: 'Enter', ctrlKey: true })
    await screen.findByText('The comment was not kept')
    lost = false
    fireEvent.keyDown(screen.getByRole('textbox', { name: 'Comment on line 3' }), { key: 'Enter', ctrlKey: true })
    await screen.findByRole('article', { name: 'Your comment on line 3' })
    expect(new Set(made(world, 'putReviewComment').map((request) => request.commentId)).size).toBe(1)
  })

  it('that was sent elsewhere while it is changed is not made again, and its text stays', async () => {
    const putReviewComment = () => {
      throw new FoundryError({ code: Code.NotFound, reason: 'NOT_FOUND', message: 'no such review comment' })
    }
    const { world } = show({ putReviewComment }, [kept(comment('rvc_1', { side: ReviewSide.OLD, quote: 'two', sinceVersion: 0n }))])
    await opened()
    fireEvent.click(screen.getByRole('button', { name: 'Edit the comment on line 2 before the change' }))
    const name = 'Comment on line 2 before the change'
    fireEvent.change(screen.getByRole('textbox', { name }), { target: { value: 'How?' } })
    act(() => world.fake.show(topics.review('org_1', 'task_1'), []))
    await screen.findByText(/was sent or deleted since/)
    fireEvent.keyDown(screen.getByRole('textbox', { name }), { key: 'Enter', ctrlKey: true })
    await screen.findByText('NOT_FOUND')
    expect(made(world, 'putReviewComment')).toMatchObject([{ commentId: 'rvc_1', existing: true, sinceVersion: 0n }])
    expect((screen.getByRole('textbox', { name }) as HTMLTextAreaElement).value).toBe('How?')
  })

  it('that is not kept is shown by the button of its file, before another one, and when its file is not listed', async () => {
    let files = [file('a.rs'), file('b.rs')]
    const getFileDiff = ({ path }: { path: string }) => ({ patch: new TextEncoder().encode(PATCH), file: file(path), version: 1n })
    const { again } = show({ listFileChanges: () => ({ files, nextPageToken: '' }), getFileDiff })
    fireEvent.click(gutter(await opened(), 3))
    fireEvent.change(await screen.findByRole('textbox', { name: 'Comment on line 3' }), { target: { value: 'half' } })
    fireEvent.click(screen.getByRole('button', { name: /a\.rs/, expanded: true }))
    expect(screen.queryByRole('textbox')).toBeNull()
    fireEvent.click(screen.getByRole('button', { name: 'Comment on the file b.rs' }))
    const field = (await screen.findByRole('textbox', { name: 'Comment on line 3' })) as HTMLTextAreaElement
    expect(field.value).toBe('half')
    fireEvent.click(screen.getByRole('button', { name: /a\.rs/, expanded: true }))
    fireEvent.click(screen.getByRole('button', { name: 'Unfinished comment' }))
    await screen.findByRole('textbox', { name: 'Comment on line 3' })
    fireEvent.click(screen.getByRole('button', { name: 'Send review' }))
    expect(screen.getByRole('alert').textContent).toContain('is not sent')
    files = [file('b.rs')]
    again(aTask({ changes: { version: 2n, filesChanged: 1 } }))
    await screen.findByText('The file of this comment is not listed now.')
    expect((screen.getByRole('textbox', { name: 'Comment on line 3' }) as HTMLTextAreaElement).value).toBe('half')
  })

  it('whose lines were changed while it is written is kept only on lines that are chosen again', async () => {
    let patch = PATCH
    let content = 'a.rs 1'
    const getFileDiff = () => ({ patch: new TextEncoder().encode(patch), file: file('a.rs', { content }), version: 1n })
    const { world, again } = show({ putReviewComment: putComment, getFileDiff })
    fireEvent.click(gutter(await opened(), 3))
    const field = await screen.findByRole('textbox', { name: 'Comment on line 3' })
    fireEvent.change(field, { target: { value: 'x' } })
    patch = PATCH.replace('+three', '+other').replace('+2\n', '+new\n+2\n').replace('+1,4', '+1,5')
    content = 'a.rs 2'
    again(aTask({ changes: { version: 2n, filesChanged: 1 } }))
    await screen.findByText(/choose other lines/)
    fireEvent.keyDown(screen.getByRole('textbox', { name: 'Comment on line 3' }), { key: 'Enter', ctrlKey: true })
    await screen.findByText('REVIEW_FILE_CHANGED')
    expect(made(world, 'putReviewComment')).toEqual([])
    fireEvent.click(gutter(screen.getByRole('region', { name: 'Diff of a.rs' }), 4))
    const moved = (await screen.findByRole('textbox', { name: 'Comment on line 4' })) as HTMLTextAreaElement
    expect(moved.value).toBe('x')
    fireEvent.keyDown(moved, { key: 'Enter', ctrlKey: true })
    await waitFor(() => expect(made(world, 'putReviewComment')).toMatchObject([{ content: 'a.rs 2', startLine: 4, text: 'x' }]))
  })

  it('says why its place could not be looked up, and looks again', async () => {
    let fails = true
    const listReviewComments = () => {
      if (fails) throw new FoundryError({ code: Code.Unavailable, reason: 'UNAVAILABLE', message: 'down' })
      return { comments: [create(PlacedReviewCommentSchema, { comment: comment('rvc_1'), place: ReviewPlace.OUTDATED })] }
    }
    const items = [kept(comment('rvc_1', { content: 'a.rs 0' }))]
    show({ listReviewComments }, items, aTask({ changes: { version: 2n, filesChanged: 1 } }))
    await screen.findByText('The lines of your comments could not be looked for')
    fails = false
    fireEvent.click(screen.getByRole('button', { name: /Retry|Try again/ }))
    await waitFor(() => expect(screen.queryByText('The lines of your comments could not be looked for')).toBeNull())
  })

  it('on a binary file is on the file', async () => {
    const { world } = show({
      listFileChanges: () => ({ files: [file('logo.png', { binary: true })], nextPageToken: '' }),
      putReviewComment: putComment,
    })
    fireEvent.click(await screen.findByRole('button', { name: 'Comment on the file logo.png' }))
    fireEvent.change(await screen.findByRole('textbox', { name: 'Comment on the file' }), { target: { value: 'Smaller' } })
    fireEvent.click(screen.getByRole('button', { name: 'Keep comment' }))
    await screen.findByText('Smaller')
    expect(made(world, 'putReviewComment')).toMatchObject([{ path: 'logo.png', side: ReviewSide.FILE, startLine: 0 }])
  })
})

describe('a review', () => {
  it('is sent with its text to the session, once', async () => {
    const message = create(QueuedMessageSchema, { messageId: 'msg_1' })
    const { world } = show({ submitReview: () => ({ message, commentCount: 1, rev: 3n }) }, [kept(comment('rvc_1'))])
    fireEvent.click(await screen.findByRole('button', { name: 'Send review' }))
    const field = screen.getByRole('textbox', { name: 'Summary of the review' })
    fireEvent.change(field, { target: { value: 'Almost.' } })
    fireEvent.keyDown(field, { key: 'Enter', ctrlKey: true })
    await waitFor(() => expect(made(world, 'submitReview')).toMatchObject([{ taskId: 'task_1', sessionId: 'ses_1', text: 'Almost.' }]))
    act(() => world.fake.show(topics.review('org_1', 'task_1'), []))
    await screen.findByText('No comments, 0 of 1 viewed')
    expect(screen.queryByRole('textbox', { name: 'Summary of the review' })).toBeNull()
  })

  it('shows a file as viewed until its content changes', async () => {
    let content = 'a.rs 1'
    const listFileChanges = () => ({ files: [file('a.rs', { content })], nextPageToken: '' })
    const { world, again } = show({ listFileChanges, markFileViewed: () => ({ rev: 4n }) })
    const box = () => screen.getByRole('checkbox', { name: 'Viewed a.rs' }) as HTMLInputElement
    await screen.findByText('a.rs')
    fireEvent.keyDown(screen.getByRole('button', { name: /a\.rs/, expanded: false }), { key: 'v' })
    await waitFor(() => expect(box().checked).toBe(true))
    expect(made(world, 'markFileViewed')).toMatchObject([{ path: 'a.rs', content: 'a.rs 1', viewed: true }])
    act(() => world.fake.show(topics.review('org_1', 'task_1'), [viewed('a.rs', 'a.rs 1')]))
    again(aTask({ changes: { version: 2n, filesChanged: 1 } }))
    await waitFor(() => expect(made(world, 'listFileChanges')).toHaveLength(2))
    expect(box().checked).toBe(true)
    content = 'a.rs 3'
    again(aTask({ changes: { version: 3n, filesChanged: 1 } }))
    await waitFor(() => expect(box().checked).toBe(false))
  })

  it('lists only what has changed since the last turn when that is wanted', async () => {
    const listFileChanges = ({ sinceVersion }: { sinceVersion: bigint }) => ({
      files: sinceVersion === 3n ? [file('b.rs')] : [file('a.rs'), file('b.rs')],
      nextPageToken: '',
    })
    const newestTurn = { messageId: 'msg_2', version: 3n }
    const { world } = show(
      { listFileChanges },
      [kept(comment('rvc_1', { version: 5n }))],
      aTask({ changes: { version: 5n, filesChanged: 2 }, newestTurn }),
    )
    await screen.findByText('a.rs')
    fireEvent.click(screen.getByRole('checkbox', { name: 'Since last turn' }))
    await waitFor(() => expect(screen.getAllByRole('listitem')).toHaveLength(1))
    expect(screen.getByRole('region', { name: 'Comments on files that are not listed' }).textContent).toContain('Why?')
    fireEvent.click(screen.getByRole('button', { name: /b\.rs/, expanded: false }))
    await waitFor(() => expect(made(world, 'getFileDiff')).toMatchObject([{ path: 'b.rs', sinceVersion: 3n }]))
  })

  it('goes from file to file by n and p', async () => {
    show({ listFileChanges: () => ({ files: [file('a.rs'), file('b.rs')], nextPageToken: '' }) })
    const first = await screen.findByRole('button', { name: /a\.rs/, expanded: false })
    fireEvent.keyDown(screen.getByRole('button', { name: 'Send review' }), { key: 'n' })
    expect(document.activeElement).toBe(first)
    fireEvent.keyDown(first, { key: 'n' })
    expect(document.activeElement?.textContent).toContain('b.rs')
    fireEvent.keyDown(document.activeElement as Element, { key: 'p' })
    expect(document.activeElement).toBe(first)
  })
})

describe('lines', () => {
  const changes = linesOf(parsePatch(PATCH)?.hunks ?? [])

  it('of a range are on one side', () => {
    expect(rangeOf(changes, 0, 3)).toEqual({ side: ReviewSide.NEW, start: 1, end: 3 })
    expect(rangeOf(changes, 4, 0, 'old')).toEqual({ side: ReviewSide.OLD, start: 1, end: 3 })
    expect(rangeOf(changes, 1, 1)).toEqual({ side: ReviewSide.OLD, start: 2, end: 2 })
    expect(rangeOf(changes, 1, 3)).toEqual({ side: ReviewSide.NEW, start: 3, end: 3 })
    expect(rangeOf(changes, 99, 99)).toBeUndefined()
    expect(rangeWords(ReviewSide.OLD, 2, 3)).toBe('lines 2–3 before the change')
    expect(changes.map((it) => numberOn(it, ReviewSide.OLD))).toEqual([1, 2, undefined, undefined, 3])
  })

  it('of a comment that is being written are found again where they are now', () => {
    const range = { side: ReviewSide.NEW, start: 2, end: 3 } as const
    expect(rangeNow(changes, range, ['2', 'three'])).toEqual(range)
    expect(rangeNow(changes, { ...range, start: 1, end: 2 }, ['2', 'three'])).toEqual(range)
    expect(rangeNow(changes, range, ['2', 'other'])).toBeUndefined()
  })

  it('with a comment have the words that it was made on', () => {
    const at = (rest: object, since = 0n) =>
      keyOf(changes, { comment: comment('rvc_1', rest), place: ReviewPlace.SAME, start: 2, end: 2 }, { since, whole: false })
    expect(at({})).toBe('I2')
    expect(at({ quote: 'other' })).toBeUndefined()
    expect(at({ quote: '2\nthree' })).toBeUndefined()
    expect(at({ quote: '' })).toBeUndefined()
    expect(at({ side: ReviewSide.OLD, quote: 'two', whole: true })).toBeUndefined()
    expect(at({ side: ReviewSide.OLD, quote: 'two' })).toBe('D2')
    expect(at({ side: ReviewSide.OLD, quote: 'two' }, 3n)).toBeUndefined()
  })
})

it('the places in the message of a review are found, and none in another message', () => {
  const text =
    'Review of the changes (version 5): 2 comments\n\nAlmost.\n\n1. `src/a b.rs`, lines 3-4 before the change\n> x\n\nWhy?\n\n2. "a`b", the whole file\n\nHm.'
  expect(reviewParts(text)).toEqual([
    { kind: 'words', text: 'Review of the changes (version 5): 2 comments\n\nAlmost.' },
    { kind: 'place', text: '1. `src/a b.rs`, lines 3-4 before the change', path: 'src/a b.rs', old: true, line: 3 },
    { kind: 'words', text: '> x\n\nWhy?' },
    { kind: 'place', text: '2. "a`b", the whole file', path: 'a`b', old: false, line: 0 },
    { kind: 'words', text: 'Hm.' },
  ])
  expect(reviewParts('1. `src/a.rs`, line 3')).toBeUndefined()
  expect(newCommentId()).toMatch(/^rvc_[0-9a-f]{32}$/)
})
