import type { Foundry } from '@foundry/client'
import { FoundryProvider } from '@foundry/client/react'
import { ThemeProvider } from '../theme'
import { Announcer, Toaster } from '../ui'
import { Boundary } from './Boundary'
import { Routes } from './Routes'

/** The page: design, client, routes, and the regions for messages. */
export function App({ client }: { client: Foundry }) {
  return (
    <ThemeProvider>
      <Boundary>
        <FoundryProvider client={client}>
          <Routes />
          <Toaster />
          <Announcer />
        </FoundryProvider>
      </Boundary>
    </ThemeProvider>
  )
}
