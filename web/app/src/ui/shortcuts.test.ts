import { renderHook } from '@testing-library/react'
import { afterEach, expect, test, vi } from 'vitest'
import { Sequences, SEQUENCE_PAUSE, useShortcutGroups, useShortcuts, type Shortcut, type Stroke } from './shortcuts'

const shortcut = (keys: string): Shortcut => ({ keys, label: keys, run: vi.fn() })
const known = ['c', 'g r', 'g h', 'mod+Enter', '?'].map(shortcut)
const stroke = (key: string, change: Partial<Stroke> = {}): Stroke => ({ key, mod: false, alt: false, at: 0, typing: false, ...change })
const keysOf = (hit: ReturnType<Sequences['take']>) => (typeof hit === 'object' ? hit.keys : hit)

afterEach(() => document.body.replaceChildren())

test('one key completes a shortcut', () => {
  expect(keysOf(new Sequences().take(stroke('c'), known))).toBe('c')
})

test('two keys one after the other complete a sequence', () => {
  const sequences = new Sequences()
  expect(sequences.take(stroke('g'), known)).toBe('pending')
  expect(keysOf(sequences.take(stroke('r', { at: 200 }), known))).toBe('g r')
})

test('a sequence that waited too long begins anew', () => {
  const sequences = new Sequences()
  sequences.take(stroke('g'), known)
  expect(sequences.take(stroke('r', { at: SEQUENCE_PAUSE + 1 }), known)).toBeUndefined()
})

test('a key that ends no sequence counts by itself', () => {
  const sequences = new Sequences()
  sequences.take(stroke('g'), known)
  expect(keysOf(sequences.take(stroke('c'), known))).toBe('c')
})

test('what is typed into a field is text, save with the modifier', () => {
  expect(new Sequences().take(stroke('c', { typing: true }), known)).toBeUndefined()
  expect(keysOf(new Sequences().take(stroke('Enter', { typing: true, mod: true }), known))).toBe('mod+Enter')
})

test('the browser keeps its own shortcuts', () => {
  expect(new Sequences().take(stroke('c', { mod: true }), known)).toBeUndefined()
  expect(new Sequences().take(stroke('c', { alt: true }), known)).toBeUndefined()
})

test('the shift of a question mark is no key of its own', () => {
  const sequences = new Sequences()
  expect(sequences.take(stroke('Shift'), known)).toBeUndefined()
  expect(keysOf(sequences.take(stroke('?'), known))).toBe('?')
})

test('offered shortcuts run until their component is gone, and not within dialogs or fields', () => {
  const run = vi.fn()
  const offered = renderHook(() => useShortcuts('Here', [{ keys: 'x', label: 'Do it', run }]))
  const groups = renderHook(() => useShortcutGroups())
  expect(groups.result.current.map((it) => it.title)).toEqual(['Here'])
  const press = (target: Element) => target.dispatchEvent(new KeyboardEvent('keydown', { key: 'x', bubbles: true, cancelable: true }))
  document.body.innerHTML = '<input id="field"><div role="dialog"><button id="inside"></button></div>'
  press(document.body)
  expect(run).toHaveBeenCalledTimes(1)
  for (const id of ['field', 'inside']) press(document.getElementById(id) ?? document.body)
  expect(run).toHaveBeenCalledTimes(1)
  offered.unmount()
  press(document.body)
  expect(run).toHaveBeenCalledTimes(1)
})
