import { useState } from 'react'
import { useShell } from '../../state/shell'

/** Name and e-mail address for commits: as last given in this browser, otherwise of the account. */
export function useAuthor() {
  const { user } = useShell()
  const [given, setGiven] = useState({ name: stored('name'), email: stored('email') })
  const login = user?.login ?? ''
  return {
    name: given.name ?? user?.displayName ?? '',
    email: given.email ?? (login === '' || login.includes('@') ? login : `${login}@localhost`),
    set: (name: string, email: string) => setGiven({ name, email }),
    remember: () => {
      if (given.name !== undefined) localStorage.setItem(key('name'), given.name)
      if (given.email !== undefined) localStorage.setItem(key('email'), given.email)
    },
  }
}

const key = (part: 'name' | 'email') => `foundry-author-${part}`

function stored(part: 'name' | 'email'): string | undefined {
  return localStorage.getItem(key(part)) ?? undefined
}
