import { Foundry } from '@foundry/client'

/** The one client of this page. */
export function createClient(): Foundry {
  return new Foundry()
}
