import type { Foundry } from '@foundry/client'
import { forgetDrafts } from '../state/draft'
import { toastError } from '../ui'

let leaving = false

/** Whether the person is signing out, so that no message is shown about the end of the session. */
export function isLeaving(): boolean {
  return leaving
}

/** The sign-in page is shown: from now on, the end of a session is unexpected again. */
export function hasLeft(): void {
  leaving = false
}

/** Signs out here and in all tabs of this browser, and removes the texts that this browser keeps. */
export async function signOut(client: Foundry): Promise<void> {
  leaving = true
  try {
    await client.signOut()
    // The connection changes a moment later, so `leaving` stays set.
    forgetDrafts()
  } catch (error) {
    leaving = false
    toastError('You are still signed in', error, { label: 'Try again', run: () => void signOut(client) })
  }
}
