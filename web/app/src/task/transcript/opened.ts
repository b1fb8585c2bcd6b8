import { createContext, useContext, useState } from 'react'

/** Which blocks of a transcript a person has opened or closed, by key; kept while the blocks are not rendered. */
export const OpenedContext = createContext<Map<string, boolean> | undefined>(undefined)

/** Whether the person has opened or closed a block; undefined = neither. */
export function useOpened(key: string): [boolean | undefined, (open: boolean) => void] {
  const kept = useContext(OpenedContext)
  const [opened, setOpened] = useState(() => kept?.get(key))
  const choose = (open: boolean) => {
    kept?.set(key, open)
    setOpened(open)
  }
  return [opened, choose]
}
