import { create } from '@bufbuild/protobuf'
import { NamedValueSchema } from '@foundry/client/gen/foundry/common/v1/secret_pb'
import { expect, test } from 'vitest'
import { entriesOf, entriesText, entryProblems, namedValues, newEntry, type Entry } from './entries'

const stored = entriesOf('headers', [
  create(NamedValueSchema, { name: 'x-team', content: { case: 'value', value: 'blue' } }),
  create(NamedValueSchema, { name: 'x-key', content: { case: 'secret', value: {} } }),
])
const same = (one: string, other: string) => one === other
const of = (change: Partial<Entry>): Entry => ({ ...newEntry('headers'), ...change })

test('a stored secret is said to be one, and is sent empty unless another was entered, which keeps it', () => {
  expect(entriesText(stored)).toBe('x-team: blue, x-key (secret)')
  expect(entryProblems(stored, () => false, same)).toEqual({})
  const sent = namedValues(stored, () => '').map((it) => it.content)
  expect(sent).toEqual([
    { case: 'value', value: 'blue' },
    { case: 'secret', value: { value: '' } },
  ])
  expect(namedValues(stored, (id) => (id === 'headers/x-key' ? 'new' : ''))[1]?.content.value).toEqual({ value: 'new' })
})

test('a secret belongs to its name: under another one it is entered again', () => {
  const renamed = stored.map((it) => (it.isSecret ? { ...it, name: 'x-other' } : it))
  expect(entryProblems(renamed, () => false, same)).toEqual({ 'headers/x-key': 'The value is required.' })
  expect(entryProblems(renamed, (id) => id === 'headers/x-key', same)).toEqual({})
})

test('a new entry is secret until somebody says otherwise, and needs a name of its own', () => {
  const fresh = newEntry('headers')
  expect(fresh.isSecret).toBe(true)
  expect(Object.keys(entryProblems([fresh], () => false, same))).toEqual([`${fresh.id}/name`, fresh.id])
  const twice = [...stored, of({ name: ' x-team ', isSecret: false })]
  expect(Object.values(entryProblems(twice, () => false, same))).toEqual(['This name is used twice.'])
  expect(Object.values(entryProblems([of({ name: 'empty', isSecret: false })], () => false, same))).toEqual([])
})
