import { useMemo, useRef, useState } from 'react'

/** The fields of a form that secrets are typed into. */
export interface Secrets {
  /** To be given to the field of this id as its `ref`. */
  readonly field: (id: string) => (element: HTMLInputElement | null) => void
  /** The fields that something is typed into. */
  readonly given: () => string[]
  /** The fields whose secret was sent and not kept, and that are empty since. */
  readonly missing: () => string[]
  /** Puts something into a field, as soon as it is there. */
  readonly put: (id: string, secret: string) => void
  /** Takes the secrets on their way and empties their fields. Answers a number that is another for other secrets. */
  readonly take: () => number
  /** A secret that is on its way; empty = none. */
  readonly of: (id: string) => string
  /** Forgets those on their way. */
  readonly forget: () => void
  /** Puts those on their way back into their fields. */
  readonly putBack: () => void
}

/**
 * Secrets on their way: their fields are the only places that they are typed into, and these are empty as soon as the
 * secrets are sent. They are no part of a command's input, which is kept for a repeat.
 */
export function useSecrets(): Secrets {
  const fields = useRef(new Map<string, HTMLInputElement>())
  const waiting = useRef(new Map<string, string>())
  const taken = useRef(new Map<string, string>())
  const attempt = useRef(0)
  const [lost] = useState(() => new Set<string>())
  return useMemo(() => {
    const typed = (id: string) => fields.current.get(id)?.value.trim() ?? ''
    const put = (id: string, secret: string) => {
      const element = fields.current.get(id)
      if (element === undefined) waiting.current.set(id, secret)
      else element.value = secret
    }
    const given = () => [...fields.current.keys()].filter((id) => typed(id) !== '')
    return {
      field: (id) => (element) => {
        if (element === null) {
          // What was typed outlives its field, which another choice in the form may bring back.
          const secret = fields.current.get(id)?.value ?? ''
          if (secret !== '') waiting.current.set(id, secret)
          return void fields.current.delete(id)
        }
        fields.current.set(id, element)
        const secret = waiting.current.get(id)
        waiting.current.delete(id)
        if (secret !== undefined) element.value = secret
      },
      given,
      missing: () => [...lost].filter((id) => fields.current.has(id) && typed(id) === ''),
      put,
      take: () => {
        taken.current = new Map(given().map((id) => [id, typed(id)]))
        for (const id of taken.current.keys()) put(id, '')
        if (taken.current.size > 0) attempt.current += 1
        return attempt.current
      },
      of: (id) => taken.current.get(id) ?? '',
      forget: () => {
        for (const id of taken.current.keys()) lost.add(id)
        taken.current.clear()
      },
      putBack: () => {
        for (const [id, secret] of taken.current) put(id, secret)
        taken.current.clear()
      },
    }
  }, [lost])
}
