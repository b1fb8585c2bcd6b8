import { useEffect } from 'react'

/** Sets the document's title to what is shown, followed by the product's name. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === '' ? 'Foundry' : `${title} · Foundry`
  }, [title])
}
