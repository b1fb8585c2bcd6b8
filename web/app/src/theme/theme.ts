import { createTheme, type CSSVariablesResolver, type MantineColorsTuple } from '@mantine/core'

const iris: MantineColorsTuple = [
  '#f0f0fd',
  '#dedefa',
  '#bcbcf3',
  '#9a99ec',
  '#7f7de5',
  '#6a67dd',
  '#5b57d3',
  '#4f4ac4',
  '#423ea8',
  '#35328a',
]

const slate: MantineColorsTuple = [
  '#f7f8fa',
  '#eff0f3',
  '#e4e6ea',
  '#d5d8de',
  '#b4b9c3',
  '#8b919d',
  '#666c79',
  '#4a4f5b',
  '#2d313a',
  '#191c22',
]

const dark: MantineColorsTuple = [
  '#e6e8ec',
  '#c9cdd4',
  '#a3a9b4',
  '#7c828e',
  '#4c515c',
  '#363a44',
  '#262a32',
  '#16181d',
  '#111317',
  '#0c0d10',
]

/** The design of the page: an accent colour, its own fonts, 14 px text, tight spacing. */
export const theme = createTheme({
  primaryColor: 'iris',
  primaryShade: { light: 6, dark: 5 },
  colors: { iris, gray: slate, dark },
  autoContrast: false,
  fontFamily: 'var(--fd-font)',
  fontFamilyMonospace: 'var(--fd-font-mono)',
  fontSizes: { xs: '12px', sm: '13px', md: '14px', lg: '16px', xl: '18px' },
  lineHeights: { xs: '1.4', sm: '1.45', md: '1.5', lg: '1.5', xl: '1.4' },
  spacing: { xs: '6px', sm: '10px', md: '14px', lg: '20px', xl: '28px' },
  radius: { xs: '3px', sm: '5px', md: '7px', lg: '10px', xl: '16px' },
  defaultRadius: 'sm',
  headings: {
    fontWeight: '600',
    sizes: {
      h1: { fontSize: '20px', lineHeight: '1.3' },
      h2: { fontSize: '16px', lineHeight: '1.35' },
      h3: { fontSize: '14px', lineHeight: '1.4' },
      h4: { fontSize: '13px', lineHeight: '1.4' },
    },
  },
  cursorType: 'pointer',
  // A button that moved when pressed would lose presses at its edge.
  activeClassName: '',
  focusRing: 'auto',
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: 'xs', fw: 500 } },
    ActionIcon: { defaultProps: { variant: 'subtle', color: 'gray', size: 'md' } },
    TextInput: { defaultProps: { size: 'sm' } },
    PasswordInput: { defaultProps: { size: 'sm' } },
    Textarea: { defaultProps: { size: 'sm' } },
    Select: { defaultProps: { size: 'sm', comboboxProps: { shadow: 'md' } } },
    SegmentedControl: { defaultProps: { size: 'xs' } },
    // The placeholder would be a focusable element without a role in the menu.
    Menu: { defaultProps: { shadow: 'md', position: 'bottom-end', withInitialFocusPlaceholder: false } },
    Tooltip: { defaultProps: { openDelay: 400, withArrow: false } },
    Modal: {
      defaultProps: {
        yOffset: '8vh',
        overlayProps: { backgroundOpacity: 0.45 },
        closeButtonProps: { 'aria-label': 'Close dialog' },
      },
    },
  },
})

/** Colours of Mantine's own parts, drawn from the tokens in `tokens.css`. */
export const resolveVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: surfaces,
  dark: surfaces,
})

const surfaces = {
  '--mantine-color-body': 'var(--fd-bg)',
  '--mantine-color-text': 'var(--fd-text)',
  '--mantine-color-dimmed': 'var(--fd-text-muted)',
  '--mantine-color-placeholder': 'var(--fd-text-muted)',
  '--mantine-color-anchor': 'var(--fd-link)',
  '--mantine-color-error': 'var(--fd-error)',
  '--mantine-color-default': 'var(--fd-surface)',
  '--mantine-color-default-hover': 'var(--fd-hover)',
  '--mantine-color-default-border': 'var(--fd-border-strong)',
}
