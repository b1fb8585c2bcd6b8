import { expect, test } from 'vitest'
import { changedPaths, merged, type Fields } from './draft'

interface Draft {
  name: string
  models: string[]
  key: string
}

const fields: Fields<Draft> = {
  name: { path: 'name', label: 'Name', text: (it) => it.trim() },
  models: { path: 'models', label: 'Models', text: (it) => it.join(', ') },
  key: { path: 'credential', label: 'Key', text: (it) => it },
}
const base: Draft = { name: 'work', models: ['a', 'b'], key: '…wxyz' }

test('only what has another content is sent, and that of which a secret was entered', () => {
  expect(changedPaths(fields, base, { ...base, name: ' work ', models: ['a', 'b'] }, [])).toEqual([])
  expect(changedPaths(fields, base, { ...base, models: ['a'] }, [])).toEqual(['models'])
  expect(changedPaths(fields, base, { ...base, name: 'home' }, ['credential'])).toEqual(['name', 'credential'])
})

test('changes by two people are merged, and fields that both changed are listed with the other value', () => {
  const mine = { ...base, models: ['mine'] }
  const apart = merged(fields, base, mine, { ...base, name: 'theirs' }, ['models'])
  expect(apart).toEqual({ values: { name: 'theirs', models: ['mine'], key: '…wxyz' }, clashes: [] })
  const both = merged(fields, base, mine, { ...base, models: ['theirs', 'too'] }, ['models'])
  expect(both).toEqual({ values: mine, clashes: [{ label: 'Models', now: 'theirs, too' }] })
  expect(merged(fields, base, mine, mine, ['models']).clashes).toEqual([])
  expect(merged(fields, base, base, { ...base, key: '…end1' }, ['credential']).clashes).toEqual([{ label: 'Key', now: '…end1' }])
})
