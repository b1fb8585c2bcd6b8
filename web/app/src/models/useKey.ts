import { useRef, useState } from 'react'

/**
 * The key on its way: the field is the only place that it is typed into, and it is empty as soon as the key is sent.
 * It is no part of the command's input, which is kept for a repeat.
 */
export function useKey() {
  const field = useRef<HTMLInputElement>(null)
  const key = useRef('')
  const attempt = useRef(0)
  const [wasSent, setWasSent] = useState(false)
  const take = () => {
    key.current = field.current?.value.trim() ?? ''
    if (field.current !== null) field.current.value = ''
    if (key.current !== '') {
      attempt.current += 1
      setWasSent(true)
    }
    return attempt.current
  }
  const forget = () => (key.current = '')
  const isGiven = () => (field.current?.value.trim() ?? '') !== ''
  return { field, key, take, forget, isGiven, wasSent }
}
