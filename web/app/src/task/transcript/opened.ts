import { createContext, useContext, useState } from 'react'

/** Which blocks of a transcript a person opened or closed, by key; kept while they are off the screen and not rendered. */
export const OpenedContext = createContext<Map<string, boolean> | undefined>(undefined)

/** Whether a block was opened or closed by the person; undefined = neither. */
export function useOpened(key: string): [boolean | undefined, (open: boolean) => void] {
  const kept = useContext(OpenedContext)
  const [opened, setOpened] = useState(() => kept?.get(key))
  const choose = (open: boolean) => {
    kept?.set(key, open)
    setOpened(open)
  }
  return [opened, choose]
}
