import { FoundryError } from '@foundry/client'
import { act, renderHook } from '@testing-library/react'
import { expect, test, vi } from 'vitest'
import { RequestIds, useCommand } from './command'

function ids() {
  let last = 0
  return new RequestIds(() => {
    last += 1
    return `req_${last}`
  })
}

test('the same input keeps its request id until it is done', () => {
  const made = ids()
  expect([made.for({ a: 1n }), made.for({ a: 1n })]).toEqual(['req_1', 'req_1'])
  made.done()
  expect(made.for({ a: 1n })).toBe('req_2')
})

test('another input has an id of its own', () => {
  const made = ids()
  expect([made.for('fix'), made.for('fix it')]).toEqual(['req_1', 'req_2'])
})

test('a retry after a failure sends the same request id', async () => {
  const sent: string[] = []
  const command = renderHook(() =>
    useCommand('It failed', async (requestId: string, text: string) => {
      sent.push(requestId)
      if (sent.length === 1) throw new FoundryError({ code: 14, message: 'gone' })
      return text
    }),
  )
  await act(() => command.result.current.run('fix'))
  expect(command.result.current.error?.code).toBe(14)
  await act(() => command.result.current.run('fix'))
  expect(command.result.current.error).toBeUndefined()
  expect(sent[1]).toBe(sent[0])
})

test('a second press while one is in flight does nothing', async () => {
  let finish = (): void => {}
  const send = vi.fn((_: string) => new Promise<void>((resolve) => (finish = resolve)))
  const command = renderHook(() => useCommand('It failed', send))
  await act(async () => {
    void command.result.current.run()
    void command.result.current.run()
  })
  expect(send).toHaveBeenCalledTimes(1)
  expect(command.result.current.busy).toBe(true)
  await act(async () => finish())
  expect(command.result.current.busy).toBe(false)
})
