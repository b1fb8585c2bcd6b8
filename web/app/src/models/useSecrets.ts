import { useMemo, useRef, useState } from 'react'

/** The form fields into which secrets are typed. */
export interface Secrets {
  /** The `ref` for the field with this id. */
  readonly field: (id: string) => (element: HTMLInputElement | null) => void
  /** Ids of the fields with a text in them. */
  readonly given: () => string[]
  /** Ids of the fields whose secret was sent but not stored, and that have been empty since. */
  readonly missing: () => string[]
  /** Puts a text into a field when it is rendered. */
  readonly put: (id: string, secret: string) => void
  /** Takes the secrets out of their fields to send them. Returns a number that is different for different secrets. */
  readonly take: () => number
  /** A secret that is being sent; empty = none. */
  readonly of: (id: string) => string
  /** Drops the secrets that were being sent. */
  readonly forget: () => void
  /** Puts the secrets that were being sent back into their fields. */
  readonly putBack: () => void
}

/**
 * Secrets of a form. They exist only in the fields into which they are typed, which are emptied when the secrets are
 * sent. They are no part of a command's input, which is kept for a repeat.
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
          // The text outlives its field, because another choice in the form may bring the field back.
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
