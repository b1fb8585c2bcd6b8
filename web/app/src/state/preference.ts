import { useCallback, useState } from 'react'

/** A choice that is stored in this browser; an unknown stored value counts as the default. */
export function usePreference<T extends string>(name: string, known: readonly T[], fallback: T): [T, (value: T) => void] {
  const key = `foundry-${name}`
  const [value, setValue] = useState<T>(() => {
    const stored = localStorage.getItem(key)
    return known.find((it) => it === stored) ?? fallback
  })
  const choose = useCallback(
    (next: T) => {
      setValue(next)
      localStorage.setItem(key, next)
    },
    [key],
  )
  return [value, choose]
}
