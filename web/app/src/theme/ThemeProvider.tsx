import { localStorageColorSchemeManager, MantineProvider } from '@mantine/core'
import type { ReactNode } from 'react'
import './mantine'
import './fonts.css'
import './tokens.css'
import './global.css'
import { styleNonce } from './nonce'
import { resolveVariables, theme } from './theme'

const schemes = localStorageColorSchemeManager({ key: 'foundry-color-scheme' })

/** Provides the design; light or dark as the system has it, unless the person chose one. */
export function ThemeProvider({ children }: { children: ReactNode }) {
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={resolveVariables}
      defaultColorScheme="auto"
      colorSchemeManager={schemes}
      getStyleNonce={styleNonce}
    >
      {children}
    </MantineProvider>
  )
}
