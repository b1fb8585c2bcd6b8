import { useEffect } from 'react'

/** Names the document after what is shown; the product's name comes last. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === '' ? 'Foundry' : `${title} · Foundry`
  }, [title])
}
