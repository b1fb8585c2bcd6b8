import { useEffect, useRef } from 'react'

/** Whether the component is still mounted, for answers that arrive late. */
export function useAlive(): { readonly current: boolean } {
  const alive = useRef(true)
  useEffect(() => {
    alive.current = true
    return () => {
      alive.current = false
    }
  }, [])
  return alive
}
