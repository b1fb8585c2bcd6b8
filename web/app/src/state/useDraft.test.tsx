import { create } from '@bufbuild/protobuf'
import { topics } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { UserStateItemSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { act, renderHook } from '@testing-library/react'
import type { ReactNode } from 'react'
import { afterEach, expect, test, vi } from 'vitest'
import { FakeFoundry } from '../test/fakeFoundry'
import { forgetDrafts } from './draft'
import { useDraft } from './useDraft'

afterEach(() => {
  vi.restoreAllMocks()
  forgetDrafts()
})

interface Place {
  subject: string
  userId?: string
  moves?: boolean
}

function open(place: Place) {
  const fake = new FakeFoundry({ task: { updateDraft: () => new Promise(() => {}) } })
  fake.show(topics.userState('org_1'), [])
  const wrapper = ({ children }: { children: ReactNode }) => <FoundryProvider client={fake.client}>{children}</FoundryProvider>
  const hook = renderHook(({ subject, userId, moves }: Place) => useDraft('org_1', subject, { userId, moves }), {
    wrapper,
    initialProps: place,
  })
  return {
    ...hook,
    fake,
    type: (text: string) => act(() => hook.result.current.draft.edit(text)),
    requests: () => fake.made.map((it) => it.request),
  }
}

test.each([undefined, 'usr_1'])('a draft is saved at once when the page is hidden or the field goes away (user: %s)', (userId) => {
  const { type, requests, unmount } = open({ subject: 'ses_1', userId })
  type('Hi')
  expect(requests()).toEqual([])
  vi.spyOn(document, 'visibilityState', 'get').mockReturnValue('hidden')
  document.dispatchEvent(new Event('visibilitychange'))
  expect(requests()).toEqual([{ organizationId: 'org_1', subject: 'ses_1', text: 'Hi' }])
  unmount()
  const closed = open({ subject: 'ses_2', userId })
  closed.type('Hi')
  closed.unmount()
  expect(closed.requests()).toEqual([{ organizationId: 'org_1', subject: 'ses_2', text: 'Hi' }])
})

test('what the server does not have yet is there again for its user, and for nobody else', () => {
  const { type, unmount } = open({ subject: 'new_task/repo_1', userId: 'usr_1' })
  type('Fix it')
  unmount()
  const again = open({ subject: 'new_task/repo_1', userId: 'usr_1' })
  expect(again.result.current.text).toBe('Fix it')
  again.rerender({ subject: 'new_task/repo_1', userId: 'usr_2' })
  expect(again.result.current.text).toBe('')
})

test('words go along to another subject where they may, and stay with a session', () => {
  const form = open({ subject: 'new_task/repo_1', userId: 'usr_1', moves: true })
  form.type('Fix it')
  form.rerender({ subject: 'new_task/repo_2', userId: 'usr_1', moves: true })
  expect(form.result.current.text).toBe('Fix it')
  const composer = open({ subject: 'ses_1', userId: 'usr_1' })
  composer.type('Hi')
  composer.rerender({ subject: 'ses_2', userId: 'usr_1' })
  expect(composer.result.current.text).toBe('')
  composer.rerender({ subject: 'ses_1', userId: 'usr_1' })
  expect(composer.result.current.text).toBe('Hi')
})

test('what is typed before the user is known stays, and is there again later', () => {
  const { type, rerender, result, unmount } = open({ subject: 'ses_1' })
  type('Hi')
  rerender({ subject: 'ses_1', userId: 'usr_1' })
  expect(result.current.text).toBe('Hi')
  unmount()
  expect(open({ subject: 'ses_1', userId: 'usr_1' }).result.current.text).toBe('Hi')
})

test('the text stays when the state of the user can no longer be watched', () => {
  const { fake, result } = open({ subject: 'ses_1', userId: 'usr_1' })
  const item = create(UserStateItemSchema, { item: { case: 'draft', value: { subject: 'ses_1', text: 'Hi' } } })
  act(() => fake.show(topics.userState('org_1'), [['draft/ses_1', item]]))
  expect(result.current.text).toBe('Hi')
  act(() => fake.show(topics.userState('org_1'), [], 'ended'))
  expect(result.current.text).toBe('Hi')
})
