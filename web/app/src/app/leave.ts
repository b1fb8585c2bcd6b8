import type { Foundry } from '@foundry/client'
import { forgetDrafts } from '../state/draft'
import { toastError } from '../ui'

let leaving = false

/** Whether the person is signing out by their own wish, so that nobody tells them that their session has ended. */
export function isLeaving(): boolean {
  return leaving
}

/** The sign-in page is there: from now on a session that ends does so by itself. */
export function hasLeft(): void {
  leaving = false
}

/** Signs out here and in all tabs of this browser; texts kept in this browser are forgotten. */
export async function signOut(client: Foundry): Promise<void> {
  leaving = true
  try {
    await client.signOut()
    // The connection hears of it a moment later, so that this is not over yet.
    forgetDrafts()
  } catch (error) {
    leaving = false
    toastError('You are still signed in', error, { label: 'Try again', run: () => void signOut(client) })
  }
}
