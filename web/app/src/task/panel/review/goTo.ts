import { useSyncExternalStore } from 'react'

/** A place in the changes that a person wants to see. */
export interface Goal {
  readonly path: string
  /** Whether the line is of the file before the change. */
  readonly old: boolean
  /** The line; 0 = the file. */
  readonly line: number
  /** Grows with each wish, so that the same place can be wanted again. */
  readonly number: number
}

let goal: Goal | undefined
const listeners = new Set<() => void>()

/** Shows a place in the changes, when they are open. */
export function goTo(path: string, old: boolean, line: number): void {
  goal = { path, old, line, number: (goal?.number ?? 0) + 1 }
  for (const listener of listeners) listener()
}

/** The place in a file that is wanted; undefined = none in this file. */
export function useGoal(path: string): Goal | undefined {
  const wanted = useSyncExternalStore(subscribe, () => goal)
  return wanted?.path === path ? wanted : undefined
}

/** The goal was reached or given up. */
export function reached(number: number): void {
  if (goal?.number !== number) return
  goal = undefined
  for (const listener of listeners) listener()
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
